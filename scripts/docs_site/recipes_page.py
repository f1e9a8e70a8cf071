# SPDX-License-Identifier: Apache-2.0
"""The reference page of all recipes."""

from itertools import groupby

from pippin.cli.listing import FAMILIES, recipe_list
from pippin.recipes.table import RECIPES, get_recipe

HEAD = """# Recipes

A recipe is a complete configuration with a name. `pippin train RECIPE` trains it, and
[every setting](configuration.md) of it is an option. The table is generated from the code.

    pippin show RECIPE          # what it is and costs
    pippin plan RECIPE          # memory, hours and disk on many devices
"""


def recipes_page() -> str:
    """Families and recipes in Markdown."""
    text = dict(
        line.strip().split(maxsplit=1)
        for line in recipe_list().splitlines()
        if line.startswith("  ")
    )
    lines = [HEAD]
    for family, names in groupby(RECIPES, key=lambda name: name.partition("/")[0]):
        lines += [f"\n## {family}/...\n", f"Recipes {FAMILIES[family]}.\n"]
        lines += ["| recipe | model, resolution, conditions, budget | batch | precision |"]
        lines += ["| --- | --- | --- | --- |"]
        for name in names:
            train = get_recipe(name).train
            lines.append(f"| `{name}` | {text[name]} | {train.batch_size} | {train.precision} |")
    return "\n".join(lines) + "\n"

# SPDX-License-Identifier: Apache-2.0
"""List of recipes by family, with a line each."""

from pippin.data.config import NoDataConfig
from pippin.plugins import load_plugins
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import RECIPES

FAMILIES = {
    "openmoji": "on the embedded images; small enough for two CPU cores",
    "shapes": "on procedural scenes with ground truth; small enough for two CPU cores",
    "folder": "on a custom data set: --data.path FOLDER",
    "published": "published models as they were trained: --data.path FOLDER",
    "paper": "five denoisers under one protocol, on ImageNet and CC12M: --data.path FOLDER",
}


def recipe_list() -> str:
    """All recipes, each described from its settings."""
    load_plugins()
    width = max(map(len, RECIPES))
    lines = []
    for family in dict.fromkeys(name.partition("/")[0] for name in RECIPES):
        lines += ["", f"{family}/...  {FAMILIES.get(family, 'of an imported module')}"]
        lines += [
            f"  {name:<{width}}  {_description(build())}"
            for name, build in RECIPES.items()
            if name.startswith(f"{family}/")
        ]
    return "\n".join(lines[1:])


def _description(recipe: Recipe) -> str:
    """``mmdit 12 x 768, 256 px, label by attention, control gated, 25.6 M images``."""
    denoiser, data = recipe.denoiser, recipe.data
    assert not isinstance(data, NoDataConfig)
    model = f"{denoiser.kind} {denoiser.shape_text}".rstrip()
    return (
        f"{model}, {data.resolution} px, {_semantics(recipe)}, "
        f"{_control(recipe)}, {recipe.train.images / 1e6:g} M images"
    )


def _semantics(recipe: Recipe) -> str:
    rules = recipe.conditioning.rules
    return " and ".join(f"{source} by {path}" for source, path in rules.items()) or "no classes"


def _control(recipe: Recipe) -> str:
    control = recipe.conditioning.control
    if not (control.high or control.low):
        return "no control"
    if control.embedding == "sdxl":
        return "control as SDXL's"
    return "control constant" if control.low_gate.kind == "constant" else "control gated"

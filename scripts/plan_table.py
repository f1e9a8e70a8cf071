# SPDX-License-Identifier: Apache-2.0
"""The table of docs/scaling.md: every ``paper/`` recipe and the bases of studies at the scale
``gpu-hour``, on eight H100::

    python scripts/plan_table.py            prints the table
    python scripts/plan_table.py PAGE.md    puts it between the page's marks
"""

import sys
from pathlib import Path

from pippin.recipes.recipe import Recipe
from pippin.recipes.table import RECIPES, get_recipe
from pippin.run.plan import plan
from pippin.studies.scales import class_base, text_base

BEGIN, END = "<!-- plans: begin -->", "<!-- plans: end -->"
HEAD = (
    "| recipe | parameters, M | training, GFLOPs an image | DDP | DDP, again | FSDP | FSDP, again "
    "| largest local batch | device-hours | again | caches, GB | checkpoints, GB |"
)


def recipes() -> dict[str, Recipe]:
    """What is listed, by the name in the table."""
    bases = {
        "`gpu-hour`, class": class_base("gpu-hour"),
        "`gpu-hour`, text": text_base("gpu-hour"),
    }
    papers = [name for name in RECIPES if name.startswith("paper/")]
    return bases | {f"`{name}`": get_recipe(name) for name in papers}


def row(name: str, recipe: Recipe) -> str:
    """One line: GB of each device in the four ways, bold where they fit."""
    planned = plan(recipe)
    ways = planned.placements
    memory = [f"{one.memory / 1e9:.3g}" for one in ways]
    marked = [f"**{text}**" if one.fits else text for text, one in zip(memory, ways, strict=True)]
    cache = planned.cache_bytes
    cells = [
        name,
        f"{planned.parameters / 1e6:.0f}",
        f"{planned.training_flops / 1e9:.4g}",
        *marked,
        ", ".join(str(one.largest_local_batch) for one in ways) + f" of {planned.local_batch}",
        f"{ways[0].device_hours:.3g}",
        f"{ways[1].device_hours:.3g}",
        "unknown" if cache is None else _digits(cache / 1e9),
        f"{planned.checkpoints_bytes / 1e9:.3g}",
    ]
    return f"| {' | '.join(cells)} |"


def _digits(number: float) -> str:
    """Three digits, or all whole ones."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def main(argv: list[str]) -> None:
    """Print the table, or renew a page's."""
    lines = [HEAD, "| --- " * HEAD.count(" | ") + "| --- |"]
    for name, recipe in recipes().items():
        lines.append(row(name, recipe))
        print(lines[-1], flush=True)
    if argv:
        page = Path(argv[0])
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        table = "\n".join([BEGIN, "", *lines, "", END])
        page.write_text(before + table + after, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

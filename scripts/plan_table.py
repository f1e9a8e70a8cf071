# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/reference/plans.md: every ``paper/`` recipe and the bases of studies at the
scale ``gpu-hour`` on eight H100, and what the studies of that scale take on one::

    python scripts/plan_table.py            prints the tables
    python scripts/plan_table.py PAGE.md    puts them between the page's marks
"""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from pippin.recipes.latents import latent_shape_of
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import RECIPES, get_recipe
from pippin.run.cost import denoiser_flops, meta_model
from pippin.run.devices import Cluster
from pippin.run.execute import first_trained_alike
from pippin.run.placement import training_hours
from pippin.run.plan import plan
from pippin.run.states import classes_of, training_states
from pippin.studies.scales import ScaleName, class_base, text_base
from pippin.studies.table import STUDIES, get_study

HEAD = (
    "| recipe | parameters, M | training, GFLOPs an image | DDP | DDP, again | FSDP | FSDP, again "
    "| largest micro-batch | device-hours | again | caches, GB | checkpoints, GB |"
)
SCALE: ScaleName = "gpu-hour"
CARD = Cluster(devices=1, device="h100")
STUDIES_HEAD = (
    "| study | runs of a seed | the longest, hours | its memory, GB | all runs, all seeds, hours |"
)
FLOPS: dict[str, int] = {}
"""Of an image in training, by what decides them: many runs have one denoiser."""


def recipes() -> dict[str, Recipe]:
    """What is listed, by the name in the table."""
    bases = {
        "`gpu-hour`, class": class_base(SCALE),
        "`gpu-hour`, text": text_base(SCALE),
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
        ", ".join(str(one.largest_micro_batch) for one in ways) + f" of {planned.local_batch}",
        f"{ways[0].device_hours:.3g}",
        f"{ways[1].device_hours:.3g}",
        "unknown" if cache is None else _digits(cache / 1e9),
        f"{planned.checkpoints_bytes / 1e9:.3g}",
    ]
    return f"| {' | '.join(cells)} |"


def _digits(number: float) -> str:
    """Three digits, or all whole ones."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def studies() -> list[str]:
    """Those that have the scale."""
    return [name for name, shipped in STUDIES.items() if SCALE in shipped.scales]


def trainings(study: str) -> list[Recipe]:
    """What a study trains of each seed, whatever arms differ in sampling alone."""
    built = get_study(study, scale=SCALE)
    every = {f"@{name}": one for name, one in built.starts.items()} | built.arms()
    return [every[name] for name, first in first_trained_alike(every).items() if name == first]


def hours(recipe: Recipe) -> float:
    """Those of the plan for one card, whose memory takes longer to count."""
    shape = latent_shape_of(recipe)
    model = meta_model(recipe.conditioning, recipe.denoiser, classes_of(recipe), shape[0])
    door = model.conditioner
    key = repr((recipe.denoiser, model.denoiser.widths, door.has_tokens, door.num_tokens, shape))
    if key not in FLOPS:
        FLOPS[key] = denoiser_flops(model, shape, backward=True)
    muon = training_states(model, recipe.train).optimizer_flops
    return training_hours(recipe.train, CARD, FLOPS[key], muon)


def study_row(name: str) -> str:
    """One line: what a study trains on one card."""
    runs = trainings(name)
    taken = [hours(one) for one in runs]
    longest = plan(runs[taken.index(max(taken))], CARD).placements[0]
    cells = [
        f"`{name}`",
        str(len(runs)),
        f"{longest.hours:.3g}",
        f"{longest.memory / 1e9:.3g}",
        _digits(sum(taken) * len(get_study(name, scale=SCALE).seeds)),
    ]
    return f"| {' | '.join(cells)} |"


def tables() -> Iterator[tuple[str, list[str]]]:
    """Each table's lines, by the name of its marks."""
    listed = recipes()
    yield "plans", _table(HEAD, (row(name, recipe) for name, recipe in listed.items()))
    yield "studies", _table(STUDIES_HEAD, map(study_row, studies()))


def _table(head: str, rows: Iterable[str]) -> list[str]:
    lines: list[str] = []
    for line in chain([head, "| --- " * head.count(" | ") + "| --- |"], rows):
        lines.append(line)
        print(line, flush=True)
    return lines


def main(argv: list[str]) -> None:
    """Print the tables, or renew a page's."""
    for name, lines in tables():
        if argv:
            page = Path(argv[0])
            begin, end = (f"<!-- {name}: {which} -->" for which in ("begin", "end"))
            before, _, rest = page.read_text(encoding="utf-8").partition(begin)
            _, _, after = rest.partition(end)
            table = "\n".join([begin, "", *lines, "", end])
            page.write_text(before + table + after, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

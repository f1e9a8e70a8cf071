# SPDX-License-Identifier: Apache-2.0
"""Tables of docs/reference/plans.md: every ``paper/`` recipe and the study bases at the scale
``gpu-hour`` on eight H100s, and the cost of the studies of that scale on one::

    python scripts/plan_table.py            print the tables
    python scripts/plan_table.py PAGE.md    insert them between the page's marks
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path

from pippin.evaluation.metrics.cost import training_flops
from pippin.planning.data_sizes import num_classes_of
from pippin.planning.devices import Cluster
from pippin.planning.placement import training_hours
from pippin.planning.plan import plan
from pippin.planning.states import training_model, training_states
from pippin.recipes.recipe import Recipe, latent_shape_of
from pippin.recipes.table import RECIPES, get_recipe
from pippin.studies.execution import first_with_same_training
from pippin.studies.shipped.scales import ScaleName, class_base, text_base
from pippin.studies.shipped.table import STUDIES, get_study

HEAD = (
    "| recipe | parameters, M | training, GFLOPs an image | DDP | DDP, again | FSDP | FSDP, again "
    "| largest micro-batch | device-hours | again |"
)
SCALE: ScaleName = "gpu-hour"
ONE_GPU = Cluster(devices=1, device="h100")
STUDIES_HEAD = (
    "| study | runs of a seed | the longest, hours | its memory, GB | all runs, all seeds, hours |"
)
FLOPS: dict[str, int] = {}
"""Cache of training FLOPs per image: many runs share a denoiser."""


def recipes() -> dict[str, Recipe]:
    """Listed recipes by their name in the table."""
    bases = {
        "`gpu-hour`, class": class_base(SCALE),
        "`gpu-hour`, text": text_base(SCALE),
    }
    papers = [name for name in RECIPES if name.startswith("paper/")]
    return bases | {f"`{name}`": get_recipe(name) for name in papers}


def row(name: str, recipe: Recipe) -> str:
    """Table row with GB per device of the four placements, bold if they fit, all with the whole
    local batch at once."""
    planned = plan(replace(recipe, train=replace(recipe.train, micro_batch_size=None)))
    placements = planned.placements
    memory = [
        f"**{placement.memory / 1e9:.3g}**" if placement.fits else f"{placement.memory / 1e9:.3g}"
        for placement in placements
    ]
    cells = [
        name,
        f"{planned.parameters / 1e6:.0f}",
        f"{planned.training_flops / 1e9:.4g}",
        *memory,
        ", ".join(str(placement.largest_micro_batch) for placement in placements)
        + f" of {planned.local_batch}",
        f"{placements[0].device_hours:.3g}",
        f"{placements[1].device_hours:.3g}",
    ]
    return f"| {' | '.join(cells)} |"


def _digits(number: float) -> str:
    """Number with three significant digits, or rounded to an integer from 100 on."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def studies() -> list[str]:
    """Names of the studies at this scale."""
    return [name for name, shipped in STUDIES.items() if SCALE in shipped.scales]


def trainings(study: str) -> list[Recipe]:
    """Recipes that a study trains per seed; arms that differ only in sampling share one."""
    built = get_study(study, scale=SCALE)
    runs = {f"@{name}": recipe for name, recipe in built.starts.items()} | built.arms()
    return [runs[name] for name, first in first_with_same_training(runs).items() if name == first]


def hours(recipe: Recipe) -> float:
    """Training hours on one GPU, without the slower memory estimate of a plan."""
    shape = latent_shape_of(recipe)
    own, repa = (recipe.conditioning, recipe.denoiser), recipe.train.repa
    model = training_model(*own, num_classes_of(recipe), shape[0], repa)
    conditioner = model.conditioner
    tokens = (conditioner.has_tokens, conditioner.num_tokens)
    masking, meanflow = recipe.train.masking, recipe.diffusion.meanflow
    key = repr((recipe.denoiser, model.denoiser.widths, *tokens, shape, repa, masking, meanflow))
    if key not in FLOPS:
        FLOPS[key] = training_flops(model, shape, masking=masking, meanflow=meanflow)
    muon = training_states(model, recipe.train).optimizer_flops
    return training_hours(recipe.train, ONE_GPU, FLOPS[key], muon)


def study_row(name: str) -> str:
    """Table row with a study's training on one GPU."""
    runs = trainings(name)
    run_hours = [hours(recipe) for recipe in runs]
    longest = plan(runs[run_hours.index(max(run_hours))], ONE_GPU).placements[0]
    cells = [
        f"`{name}`",
        str(len(runs)),
        f"{longest.hours:.3g}",
        f"{longest.memory / 1e9:.3g}",
        _digits(sum(run_hours) * len(get_study(name, scale=SCALE).seeds)),
    ]
    return f"| {' | '.join(cells)} |"


def tables() -> Iterator[tuple[str, list[str]]]:
    """Lines of each table, with the name of its marks."""
    listed = recipes()
    rows = (row(name, recipe) for name, recipe in listed.items())
    yield "plans", _table(HEAD, _merged(rows))
    yield "studies", _table(STUDIES_HEAD, map(study_row, studies()))


def _merged(rows: Iterable[str]) -> Iterator[str]:
    """Rows with adjacent ones of equal figures merged: their names share a cell."""
    split = (line.removeprefix("| ").partition(" | ") for line in rows)
    for figures, equal in groupby(split, key=itemgetter(2)):
        yield f"| {', '.join(name for name, *_ in equal)} | {figures}"


def _table(head: str, rows: Iterable[str]) -> list[str]:
    lines: list[str] = []
    for line in chain([head, "| --- " * head.count(" | ") + "| --- |"], rows):
        lines.append(line)
        print(line, flush=True)
    return lines


def main(argv: list[str]) -> None:
    """Print the tables, or update those of a page."""
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

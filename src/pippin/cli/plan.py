# SPDX-License-Identifier: Apache-2.0
"""``pippin plan RECIPE`` and ``pippin plan --study NAME``: costs before anyone pays."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import tyro

from pippin.cli.listing import recipe_list
from pippin.cli.parsing.common_options import RECIPE_OPTIONS
from pippin.cli.parsing.options import parse
from pippin.cli.parsing.text_encoder_option import TextEncoderOption
from pippin.cli.parsing.verb_help import HELP
from pippin.cli.train import config_first, find_recipe, located_recipe, recorded_classes
from pippin.planning.devices import DEVICES, Cluster
from pippin.recipes.recipe import Recipe, Shape, has_known_latents
from pippin.studies.shipped.options import MachineSettings, with_machine_settings
from pippin.studies.shipped.scales import ScaleName
from pippin.system.text import plain_text, print_text

if TYPE_CHECKING:
    from rich.table import Table

    from pippin.planning.placement import Placement
    from pippin.planning.plan import Plan


HEADS = (
    *("run", "from", "px", "parameters, M", "GFLOPs per image", "images, M", "micro-batch"),
    *("GB", "GB, again", "largest micro-batch", "again", "device-hours", "again"),
)
"""*again*: with gradient checkpointing of every block."""


@dataclass(frozen=True, kw_only=True)
class PlanStudyCommand(MachineSettings):
    """Plan every run of a study and its pre-training, without reading data or weights."""

    scale: ScaleName | None = None
    """None = the study's smallest scale."""
    cluster: Annotated[Cluster, tyro.conf.arg(name="")] = field(
        default_factory=lambda: Cluster(devices=1)
    )
    markdown: bool = False
    """Print the table in Markdown."""


def plan_study(argv: list[str]) -> int:
    """Parse, plan and print.

    Raises:
        ValueError: no study name given.
    """
    from pippin.studies.shipped.table import get_study

    if not argv or argv[0].startswith("-"):
        raise ValueError("--study needs the name of a study; `pippin study list` lists all")
    command = parse(
        PlanStudyCommand, f"pippin plan --study {argv[0]}", argv[1:], PlanStudyCommand()
    )
    study = with_machine_settings(get_study(argv[0], scale=command.scale), command)
    starts = {f"@{name}": recipe for name, recipe in study.starts.items()}
    rows = plan_rows(starts | study.arms(), command.cluster, len(study.seeds))
    if command.markdown:
        for cells in chain((HEADS, ("---",) * len(HEADS)), rows):  # printed one by one
            print_text(f"| {' | '.join(cells)} |")
    else:
        _print(rows)
    return 0


def plan_rows(
    recipes: dict[str, Recipe], cluster: Cluster, seeds: int
) -> Iterator[tuple[str, ...]]:
    """Rows of all runs, and a total of the device-hours over all seeds.

    Runs that differ only in sampling and evaluation share one training: all but the first refer to
    the first, which alone counts.
    """
    from pippin.planning.plan import plan
    from pippin.studies.execution import first_with_same_training

    stored, recomputed = 0.0, 0.0
    first = first_with_same_training(recipes)
    for name, recipe in recipes.items():
        if first[name] != name:
            yield (name, f"training of {first[name]}", *[""] * (len(HEADS) - 2))
            continue
        planned = plan(recipe, cluster)
        yield _row(name, recipe, planned)
        stored += planned.placements[0].device_hours
        recomputed += planned.placements[1].device_hours
    seeds_text = "one seed" if seeds == 1 else f"{seeds} seeds"
    cells = [""] * (len(HEADS) - 3)
    yield (
        f"all, {seeds_text}",
        *cells,
        *(f"{seeds * hours:,.4g}" for hours in (stored, recomputed)),
    )


def _row(name: str, recipe: Recipe, planned: "Plan") -> tuple[str, ...]:
    stored, recomputed = planned.placements[:2]
    return (
        name,
        recipe.init.run or "",
        str(recipe.data.resolution),
        f"{planned.parameters / 1e6:.0f}",
        f"{planned.training_flops / 1e9:.4g}",
        f"{recipe.train.images / 1e6:.4g}",
        str(planned.micro_batch),
        f"{stored.memory / 1e9:.3g}",
        f"{recomputed.memory / 1e9:.3g}",
        str(stored.largest_micro_batch),
        str(recomputed.largest_micro_batch),
        f"{stored.device_hours:.3g}",
        f"{recomputed.device_hours:.3g}",
    )


def _print(rows: Iterable[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*HEADS)
    for cells in rows:
        table.add_row(*map(plain_text, cells))
    Console().print(table)


USAGE = """usage: pippin plan RECIPE [options]      pippin plan RECIPE --help lists its options
       pippin plan --config FILE.yaml|RUN/config.json [options]
       pippin plan --study NAME [--scale S] [options]      every run of a study

devices: {devices}

{recipes}"""


@dataclass(frozen=True, kw_only=True)
class PlanCommand(TextEncoderOption):
    """Estimate the training of a recipe on many devices, without reading data or weights."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    cluster: Annotated[Cluster, tyro.conf.arg(name="")] = field(default_factory=Cluster)
    latent_shape: Shape | None = None
    """Channels, height, width; None = from the autoencoder if known, otherwise 4 channels and an
    eighth of the resolution."""
    num_classes: int | None = None
    """None = OpenMoji's groups, those of the run of --config, or ImageNet's 1000."""
    images: int | None = None
    """Number of training images, for the cache size; None = OpenMoji's, or ImageNet's or CC12M's
    for recipes that follow a paper."""
    json: bool = False
    """Print JSON: bytes, FLOPs, hours."""


def main(argv: list[str]) -> int:
    """Parse, plan and print."""
    argv = config_first(argv)
    if not argv or argv[0] in HELP:
        print_text(USAGE.format(devices=", ".join(DEVICES), recipes=recipe_list()))
        return 0 if argv else 2
    if argv[0] == "--study":
        return plan_study(argv[1:])
    name, recipe, rest = find_recipe(argv)
    default = PlanCommand(recipe=recipe, num_classes=recorded_classes(argv))
    command = parse(PlanCommand, f"pippin plan {name}", rest, default, RECIPE_OPTIONS)
    command = replace(command, recipe=located_recipe(argv, command.recipe))
    counts = (*(command.latent_shape or ()), command.num_classes, command.images)
    if any(count is not None and count < 1 for count in counts):
        raise ValueError("--latent-shape, --num-classes and --images must be 1 or more")

    from pippin.planning.plan import plan

    planned = plan(
        command.recipe,
        command.cluster,
        latent_shape=command.latent_shape,
        num_classes=command.num_classes,
        images=command.images,
    )
    if command.json:
        print_text(json.dumps({"recipe": name} | planned.to_json(), indent=2))
        return 0

    from rich.console import Console

    console = Console()
    console.print(_summary(name, command, planned))
    console.print(_placements(planned))
    return 0


def _summary(name: str, command: PlanCommand, planned: "Plan") -> "Table":
    from rich.table import Column, Table

    table = Table("", Column(plain_text(name)))
    for left, right in (*_work(command, planned), *_disk(command, planned)):
        table.add_row(plain_text(left), plain_text(right))
    return table


def _work(command: PlanCommand, planned: "Plan") -> list[tuple[str, str]]:
    """Rows on devices and compute."""
    cluster, device = planned.cluster, DEVICES[planned.cluster.device]
    peak = device.bf16 if planned.precision == "bf16" else device.fp32
    assumption = (
        "" if command.latent_shape or has_known_latents(command.recipe) else " (assumed: factor 8)"
    )
    rows = [
        (
            "devices",
            f"{cluster.devices} x {cluster.device}: {peak / 1e12:.4g} TFLOP/s dense "
            f"{planned.precision}, {_bytes(device.memory)} each ({device.source})",
        ),
        (
            "assumed",
            f"{cluster.utilisation:.0%} of the peak, {cluster.headroom:.0%} of memory kept free",
        ),
        ("latent", " x ".join(map(str, planned.latent_shape)) + assumption),
        ("parameters", f"{planned.parameters / 1e6:.2f} M"),
        ("batch", f"{planned.batch_size}, {_batch_per_device(planned)}; {planned.steps:,} steps"),
        (
            "per image",
            f"forward {_flops(planned.forward_flops)}, training {_flops(planned.training_flops)}",
        ),
        ("per step", f"{_flops(planned.step_flops)} in total"),
    ]
    if planned.optimizer_flops:
        muon = f"Muon {_flops(planned.optimizer_flops)} on each device, in bf16"
        rows.append(("", muon))
    return rows


def _batch_per_device(planned: "Plan") -> str:
    local = f"{planned.local_batch} per device"
    accumulates = planned.micro_batch < planned.local_batch
    return f"{local}, micro-batch {planned.micro_batch}" if accumulates else local


def _disk(command: PlanCommand, planned: "Plan") -> list[tuple[str, str]]:
    """Rows on disk space."""
    keep = command.recipe.train.max_checkpoints
    per_image = f"latents {_bytes(planned.latent_bytes)}"
    if planned.text_bytes:
        per_image += f", captions {_bytes(planned.text_bytes)}"
    total, images = planned.cache_bytes, planned.images
    if total is None or images is None:
        caches = f"{per_image} per image; --images N gives the total"
    else:
        source = "" if command.images else " (assumed, see --images)"
        caches = f"{_bytes(total)}: {per_image} per image, {images:,} images{source}"
    return [
        (
            "checkpoints",
            f"{_bytes(planned.checkpoints_bytes)}: {_bytes(planned.checkpoint_bytes)} each, "
            f"{keep} kept and one being written",
        ),
        ("caches", caches),
    ]


def _placements(planned: "Plan") -> "Table":
    from rich.table import Table

    placements = planned.placements
    labels = (label(placement).replace(", ", "\n") for placement in placements)
    table = Table("per device", *labels)
    for name in ("weights", "gradients", "optimizer", "ema", "activations", "passing", "memory"):
        table.add_row(name, *(_bytes(getattr(placement, name)) for placement in placements))
    usable = _bytes(planned.cluster.usable)
    table.add_row(
        f"fits in {usable}", *("yes" if placement.fits else "NO" for placement in placements)
    )
    table.add_row(
        "largest micro-batch", *(str(placement.largest_micro_batch) for placement in placements)
    )
    table.add_row("hours, whole run", *(_count(placement.hours) for placement in placements))
    table.add_row("device-hours", *(_count(placement.device_hours) for placement in placements))
    return table


def label(placement: "Placement") -> str:
    """Column label such as ``FSDP, checkpointing 1``."""
    every = placement.checkpointing
    return f"{placement.layout}, checkpointing {every}" if every else placement.layout


def _count(number: float) -> str:
    """Number with three significant digits, or rounded to an integer from 100 on."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _bytes(count: float) -> str:
    """Bytes in powers of 1000, as in data sheets."""
    units = ("B", "kB", "MB", "GB", "TB")
    power = 0
    while count >= 999.5 and power < len(units) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.3g} {units[power]}"


def _flops(count: float) -> str:
    units = ("FLOPs", "kFLOPs", "MFLOPs", "GFLOPs", "TFLOPs", "PFLOPs", "EFLOPs")
    power = 0
    while count >= 9999.5 and power < len(units) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.4g} {units[power]}"

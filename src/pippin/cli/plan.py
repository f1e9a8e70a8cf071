# SPDX-License-Identifier: Apache-2.0
"""``pippin plan RECIPE``: costs before anyone pays."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pippin.cli.listing import recipe_list
from pippin.cli.parsing.common_options import RECIPE_OPTIONS
from pippin.cli.parsing.options import parse
from pippin.cli.parsing.text_encoder_option import TextEncoderOption
from pippin.cli.parsing.verb_help import HELP
from pippin.cli.plan_study import plan_study
from pippin.cli.recipe_argument import (
    config_first,
    find_recipe,
    located_recipe,
    recorded_classes,
)
from pippin.config import ConfigError
from pippin.planning.devices import DEVICES, Cluster
from pippin.recipes.recipe import Recipe, Shape, has_known_latents
from pippin.system.text import plain_text, print_text

if TYPE_CHECKING:
    from rich.table import Table

    from pippin.planning.placement import Placement
    from pippin.planning.plan import Plan


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
    utilisation_from: Path | None = None
    """Record of `pippin bench RECIPE --out`, whose measured share of its GPU's peak replaces
    --utilisation."""
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
    command = replace(command, cluster=_measured_cluster(command))

    from pippin.planning.fitting import option_lines
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
    print_text("options that fit, fewest hours first:")
    for line in option_lines(planned.options):
        print_text(line)
    return 0


def _measured_cluster(command: PlanCommand) -> Cluster:
    """The devices, with the utilisation of the record of ``--utilisation-from`` if given.

    Raises:
        ConfigError: two utilisations, or a record of another precision or of an unknown GPU.
    """
    if command.utilisation_from is None:
        return command.cluster
    if command.cluster.utilisation != Cluster().utilisation:
        raise ConfigError(
            f"--utilisation {command.cluster.utilisation} and --utilisation-from "
            f"{command.utilisation_from} exclude each other: give one of them"
        )
    from pippin.bench.record import BenchRecord
    from pippin.bench.utilisation import measured_utilisation

    train = command.recipe.train
    record = BenchRecord.load(command.utilisation_from)
    share = measured_utilisation(record, train.precision, compiled=train.compile)
    return replace(command.cluster, utilisation=share)


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
            f"{planned.precision}, {_bytes(cluster.memory)} each ({device.source})",
        ),
        (
            "measured" if command.utilisation_from else "assumed",
            f"{cluster.utilisation:.{0 if cluster.utilisation >= 0.1 else 2}%} of the peak, "
            f"{cluster.headroom:.0%} of memory kept free",
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
    if planned.feature_bytes:
        per_image += f", features {_bytes(planned.feature_bytes)}"
    total, images = planned.cache_bytes, planned.images
    if total is None or images is None:
        caches = f"{per_image} per image; --images N gives the total"
    else:
        source = "" if command.images else " (assumed, see --images)"
        caches = f"{_bytes(total)}: {per_image} per image, {images:,} images{source}"
    rows = [
        (
            "checkpoints",
            f"{_bytes(planned.checkpoints_bytes)}: {_bytes(planned.checkpoint_bytes)} each, "
            f"{keep} kept and one being written",
        )
    ]
    if count := planned.snapshots:
        each = planned.snapshot_bytes
        rows.append(("snapshots", f"{_bytes(count * each)}: {_bytes(each)} each, {count} kept"))
    return [*rows, ("caches", caches)]


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

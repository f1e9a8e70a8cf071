# SPDX-License-Identifier: Apache-2.0
"""Options of a training that fit the devices, as arguments to paste. They change rounding only."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pippin.planning.devices import Cluster
from pippin.planning.placement import (
    CheckpointingPlan,
    Layout,
    ModelFootprint,
    Placement,
    estimate_placement,
)
from pippin.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class FittingOption:
    """Settings with which the plan fits."""

    micro_batch_size: int
    gradient_checkpointing: int
    parallel: Literal["ddp", "fsdp"] | None
    """ddp or fsdp; None on one device, where it has no effect."""
    memory: int
    """Bytes of each device."""
    hours: float

    @property
    def arguments(self) -> str:
        """The settings as arguments of ``pippin train`` and ``pippin plan``."""
        words = [
            f"--train.micro-batch-size {self.micro_batch_size}",
            f"--train.gradient-checkpointing {self.gradient_checkpointing}",
        ]
        return " ".join(
            [*words, *([f"--train.parallel {self.parallel}"] if self.parallel else [])]
        )

    def applied(self, train: TrainConfig) -> TrainConfig:
        """The settings in a training configuration."""
        return replace(
            train,
            micro_batch_size=self.micro_batch_size,
            gradient_checkpointing=self.gradient_checkpointing,
            parallel=self.parallel or train.parallel,
        )


def fitting_options(
    train: TrainConfig,
    cluster: Cluster,
    footprint: ModelFootprint,
    layouts: Sequence[Layout],
    plans: Iterable[CheckpointingPlan],
) -> tuple[FittingOption, ...]:
    """For each layout and choice of checkpointing, the largest convenient micro-batch that fits.

    Fewest hours first, then the fewest micro-batches, then DDP.
    """
    local = train.local_batch(cluster.devices)
    options = []
    for plan in plans:
        for layout in layouts:
            largest = estimate_placement(train, cluster, footprint, layout, plan)
            size = micro_batch_size(local, largest.largest_micro_batch)
            if size:
                given = replace(train, micro_batch_size=size)
                placement = estimate_placement(given, cluster, footprint, layout, plan)
                options.append(_option(size, placement))
    return tuple(sorted(options, key=lambda option: (option.hours, -option.micro_batch_size)))


def micro_batch_size(local: int, largest: int) -> int:
    """Micro-batch of a local batch that is at most ``largest``: the whole batch, a divisor, or
    parts of about equal size if every divisor is less than half of them; 0 = none."""
    if largest < 1:
        return 0
    if largest >= local:
        return local
    even = -(-local // -(-local // largest))
    divisor = next(size for size in range(largest, 0, -1) if local % size == 0)
    return divisor if 2 * divisor >= even else even


_PARALLEL: dict[Layout, Literal["ddp", "fsdp"] | None] = {
    "one device": None,
    "DDP": "ddp",
    "FSDP": "fsdp",
}


def _option(size: int, placement: Placement) -> FittingOption:
    return FittingOption(
        micro_batch_size=size,
        gradient_checkpointing=placement.checkpointing,
        parallel=_PARALLEL[placement.layout],
        memory=placement.memory,
        hours=placement.hours,
    )


NOTHING_FITS = (
    "no micro-batch, checkpointing or sharding fits: take more devices, devices with more memory, "
    "or a smaller model (--denoiser.width, --denoiser.depth, --data.resolution)"
)


def option_lines(options: Sequence[FittingOption]) -> list[str]:
    """One line for each option: arguments, then GB of each device; or that none fits."""
    if not options:
        return [NOTHING_FITS]
    width = max(len(option.arguments) for option in options)
    return [f"{o.arguments:<{width}}  # {o.memory / 1e9:.3g} GB" for o in options]

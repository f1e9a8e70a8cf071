# SPDX-License-Identifier: Apache-2.0
"""Base of the studies of recent methods: a class-conditional DiT under rectified flow, and their
claims about two arms."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from pippin.denoisers.config import SizeName
from pippin.denoisers.dit.config import dit
from pippin.diffusion.config import DiffusionConfig, LogitNormalTime
from pippin.recipes.recipe import Recipe
from pippin.studies.contrasts import Contrast, Prediction, difference
from pippin.studies.shipped.scales import SMALLEST_KID, ScaleName, class_base

KID = "KID-efflite0"
LOSS = "held-out loss"

SMALLEST_LOSS = 0.002
"""Smallest difference of the held-out loss that matters: half a percent of it."""
SMALLEST = {KID: SMALLEST_KID, LOSS: SMALLEST_LOSS}
"""Metric -> smallest difference that matters."""
FLOW = DiffusionConfig(schedule="flow", prediction="flow", time_density=LogitNormalTime())
"""Rectified flow with logit-normal time (Esser et al. 2024)."""


class Shape(NamedTuple):
    """Size and patch size of a transformer."""

    size: SizeName
    patch_size: int


SHAPES: dict[ScaleName, Shape] = {
    "demo": Shape("tiny", 2),
    "cpu": Shape("tiny", 4),
    "gpu-hour": Shape("B", 2),
    "paper": Shape("XL", 2),
}
"""Scale -> shape of every denoiser."""


def dit_base(scale: ScaleName) -> Recipe:
    """Class-conditional DiT with class tokens by cross-attention, under rectified flow."""
    base = class_base(scale)
    size, patch_size = SHAPES[scale]
    evaluation = replace(base.evaluation, parts=("held-out", "quality", "real"))
    return replace(
        base,
        denoiser=dit(size, patch_size=patch_size, cross_attention=True),
        diffusion=FLOW,
        train=replace(base.train, lr_at="middle"),
        sampling=replace(base.sampling, solver="dpm++"),
        evaluation=evaluation,
    )


Arms = tuple[str, str]
Claims = Mapping[Arms, tuple[str, Prediction]]
"""(first arm, second arm) -> claim about second less first, and its prediction."""


def differences(metric: str, claims: Claims, *, primary: Collection[Arms]) -> Iterator[Contrast]:
    """One contrast for each claim.

    Args:
        metric: a key of :data:`SMALLEST`.
        claims: in the order of reports.
        primary: pairs of arms whose claims get a verdict; the others are secondary.
    """
    for (first, second), (claim, predicted) in claims.items():
        yield difference(
            first,
            second,
            metric,
            name=f"{second} less {first}, {metric}",
            claim=claim,
            smallest_effect=SMALLEST[metric],
            predicted=predicted,
            role="primary" if (first, second) in primary else "secondary",
        )

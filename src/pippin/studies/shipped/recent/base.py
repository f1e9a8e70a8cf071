# SPDX-License-Identifier: Apache-2.0
"""Base of the studies of recent methods: a class-conditional DiT under rectified flow."""

from dataclasses import replace
from typing import NamedTuple

from pippin.denoisers.config import SizeName
from pippin.denoisers.dit.config import dit
from pippin.diffusion.config import DiffusionConfig, LogitNormalTime
from pippin.recipes.recipe import Recipe
from pippin.studies.shipped.scales import ScaleName, class_base, without_drift

SMALLEST_LOSS = 0.002
"""Smallest difference of the held-out loss that matters: half a percent of it."""
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
    base = without_drift(class_base(scale), scale)
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

# SPDX-License-Identifier: Apache-2.0
"""Random numbers of a training step."""

from dataclasses import dataclass, replace

from pippin import rng
from pippin.conditioning.config import ConditioningConfig
from pippin.conditioning.drop import draw_keep
from pippin.diffusion.config import DiffusionConfig
from pippin.diffusion.meanflow import interval_rows, ordered_interval
from pippin.diffusion.rescale import build_schedule
from pippin.diffusion.times import draw_times
from pippin.types import Keep, Latents, Masking, Times


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Random numbers of one training step, for the global batch."""

    t: Times
    noise: Latents
    keep: Keep
    masking: Masking | None = None
    """Random masking, for a denoiser with a masked pass or deferred masking."""
    interval: Times | None = None
    """t - r of MeanFlow, 0 = flow matching."""

    def rows(self, rows: slice) -> "Draws":
        """Random numbers of a subset of the images."""
        return Draws(
            t=self.t[rows],
            noise=self.noise[rows],
            keep=self.keep.rows(rows),
            masking=self.masking and self.masking.rows(rows),
            interval=None if self.interval is None else self.interval[rows],
        )


def draw_step(
    diffusion: DiffusionConfig,
    conditioning: ConditioningConfig,
    shape: tuple[int, ...],
    *,
    num_shuffled: int = 0,
    mask_ratio: float = 0.0,
    seed: int,
    step: int,
) -> Draws:
    """All random numbers of a training step; they depend on seed and step only.

    Args:
        shape: (batch, channels, height, width) of the global batch's latents.
        num_shuffled: number of tokens per image that the denoiser shuffles.
        mask_ratio: share of them that deferred masking hides; 0 = the denoiser's own masked pass.
    """
    batch = shape[0]
    num_fields = len(conditioning.control.high) + len(conditioning.control.low)
    masking = _draw_masking(batch, num_shuffled, seed, step) if num_shuffled else None
    if masking is not None and mask_ratio:
        masking = replace(masking, hidden_share=mask_ratio)
    drops = rng.uniform((batch, 1 + num_fields), "drop", seed, step)
    t, interval = _draw_interval(diffusion, batch, seed, step)
    return Draws(
        t=t,
        noise=rng.normal(shape, "noise", seed, step),
        keep=draw_keep(conditioning, drops[:, 0], drops[:, 1:]),
        masking=masking,
        interval=interval,
    )


def _draw_interval(
    diffusion: DiffusionConfig, batch: int, seed: int, step: int
) -> tuple[Times, Times | None]:
    """Times, and the intervals that end there with MeanFlow."""
    schedule, density = build_schedule(diffusion), diffusion.time_density
    first = draw_times(density, rng.uniform((batch,), "time", seed, step), schedule)
    if not diffusion.meanflow.enabled:
        return first, None
    uniforms = rng.uniform((batch + 1,), "time", seed, step, "interval")
    second = draw_times(density, uniforms[1:], schedule)
    rows = interval_rows(diffusion.meanflow.share, batch, uniforms[0].item())
    return ordered_interval(first, second, rows)


def _draw_masking(batch: int, num_shuffled: int, seed: int, step: int) -> Masking:
    """Shuffle of each image, and one ratio for all, which must keep equally many tokens."""
    position = rng.uniform((1,), "mask", seed, step, "ratio").item()
    order = rng.uniform((batch, num_shuffled), "mask", seed, step)
    return Masking(order=order, ratio_position=position)

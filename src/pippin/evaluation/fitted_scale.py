# SPDX-License-Identifier: Apache-2.0
"""The guidance scale of the smallest distance, also between the scales that were tried.

The best of a few tried scales moves in jumps as large as their spacing. A parabola through the
distances at all of them has its vertex anywhere, and resampling the images says how surely: that
is what a law of scales (lambda' = 1 + s (lambda - 1), Berrada et al. 2024) can be tested on.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from pippin.evaluation.measure import RESAMPLES, Jackknife, middle
from pippin.rng import generator

FEWEST = 5
"""Scales that a parabola is fitted to."""


def fitted_scale(
    scales: Sequence[float], distances: Sequence[Jackknife], *, seed: int
) -> tuple[float, float, float] | None:
    """The vertex of the parabola of least squares, and its 95 % interval over samples.

    The interval is a bootstrap over images, the same ones at every scale, of their jackknife
    pseudo-values n T - (n - 1) T_i, whose mean is the statistic up to a term of order 1/n. (A
    bootstrap of the images themselves would count a repeated one as its own neighbour.) A
    resample whose parabola opens downward, or whose vertex lies outside the tried scales, counts
    as the end of the scales where its distances fall to.

    Args:
        scales: different, five or more.
        distances: of each scale, over the same images in the same order.
        seed: of the bootstrap.

    Returns:
        (value, low, high); None where the distances have no minimum inside the scales.

    Raises:
        ValueError: fewer than five scales, or samples that do not pair up.
    """
    counts = {len(one.left_out) for one in distances}
    if len(scales) < FEWEST or len(scales) != len(distances) or len(counts) != 1:
        raise ValueError(
            f"a fit needs the distances at {FEWEST} scales or more over equally many images; got "
            f"{len(scales)} scales and {len(distances)} distances over {sorted(counts)} images"
        )
    tried = torch.tensor(scales, dtype=torch.float64)
    whole = torch.tensor([one.value for one in distances], dtype=torch.float64)
    left_out = torch.stack([one.left_out.double() for one in distances], 1)  # (images, scales)
    n = len(left_out)
    pseudo = n * whole - (n - 1) * left_out
    draws = generator("subset", seed, "bootstrap", "fitted scale")
    resampled = torch.stack(
        [
            pseudo[torch.randint(n, (n,), generator=draws)].mean(0) - pseudo.mean(0) + whole
            for _ in range(RESAMPLES)
        ]
    )
    value = float(_vertices(tried, whole[None]))
    if not tried.min() < value < tried.max():
        return None
    low, high = middle(_vertices(tried, resampled))
    return value, low, high


def _vertices(
    scales: Float64[Tensor, " scales"], distances: Float64[Tensor, "curves scales"]
) -> Float64[Tensor, " curves"]:
    """Where each curve's parabola is smallest between the first and the last scale."""
    middle_scale = scales.mean()
    x = scales - middle_scale
    terms = torch.stack([torch.ones_like(x), x, x.square()], 1)
    _, slope, bend = (torch.linalg.pinv(terms) @ distances.T).unbind()  # each (curves,)
    ends = torch.where(slope < 0, x.max(), x.min())
    vertex = torch.where(bend > 0, -slope / (2 * bend), ends)
    return middle_scale + vertex.clamp(x.min(), x.max())

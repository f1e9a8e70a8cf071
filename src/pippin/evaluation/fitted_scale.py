# SPDX-License-Identifier: Apache-2.0
"""Guidance scale of the smallest distance, interpolated between the evaluated scales.

The best of a few evaluated scales is only as precise as their spacing. A parabola fitted to the
distances at all of them has its vertex anywhere between them, and resampling the images gives an
interval. A rule for scales (lambda' = 1 + s (lambda - 1), Berrada et al. 2024) can be tested on
this estimate.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from pippin.evaluation.measure import RESAMPLES, Jackknife, percentile_interval
from pippin.rng import generator

MIN_SCALES = 5
"""Smallest number of scales of a fit."""


def fitted_scale(
    scales: Sequence[float], distances: Sequence[Jackknife], *, seed: int
) -> tuple[float, float, float] | None:
    """Vertex of the least-squares parabola, and its 95 % interval over samples.

    The interval is a bootstrap over images, the same images at every scale, of their jackknife
    pseudo-values n T - (n - 1) T_i, whose mean is the statistic up to a term of order 1/n. (A
    bootstrap of the images themselves would count a repeated image as its own neighbour.) A
    resample whose parabola opens downward, or whose vertex lies outside the scales, counts as the
    end of the scales towards which its distances fall.

    Args:
        scales: distinct, five or more.
        distances: one per scale, over the same images in the same order.
        seed: seed of the bootstrap.

    Returns:
        (value, low, high); None if the distances have no minimum inside the scales.

    Raises:
        ValueError: fewer than five scales, or samples that do not pair up.
    """
    counts = {len(jackknife.leave_one_out) for jackknife in distances}
    if len(scales) < MIN_SCALES or len(scales) != len(distances) or len(counts) != 1:
        raise ValueError(
            f"a fit needs the distances at {MIN_SCALES} scales or more over equally many images; "
            f"got {len(scales)} scales and {len(distances)} distances over {sorted(counts)} images"
        )
    scale_values = torch.tensor(scales, dtype=torch.float64)
    values = torch.tensor([jackknife.value for jackknife in distances], dtype=torch.float64)
    leave_one_out = torch.stack(
        [jackknife.leave_one_out.double() for jackknife in distances], 1
    )  # (images, scales)
    n = len(leave_one_out)
    pseudo = n * values - (n - 1) * leave_one_out
    resampling = generator("subset", seed, "bootstrap", "fitted scale")
    resampled = torch.stack(
        [
            pseudo[torch.randint(n, (n,), generator=resampling)].mean(0) - pseudo.mean(0) + values
            for _ in range(RESAMPLES)
        ]
    )
    value = float(_vertices(scale_values, values[None]))
    if not scale_values.min() < value < scale_values.max():
        return None
    low, high = percentile_interval(_vertices(scale_values, resampled))
    return value, low, high


def _vertices(
    scales: Float64[Tensor, " scales"], distances: Float64[Tensor, "curves scales"]
) -> Float64[Tensor, " curves"]:
    """Scale of the minimum of each curve's parabola between the first and the last scale."""
    middle_scale = scales.mean()
    x = scales - middle_scale
    terms = torch.stack([torch.ones_like(x), x, x.square()], 1)
    _, slope, bend = (torch.linalg.pinv(terms) @ distances.T).unbind()  # each (curves,)
    ends = torch.where(slope < 0, x.max(), x.min())
    vertex = torch.where(bend > 0, -slope / (2 * bend), ends)
    return middle_scale + vertex.clamp(x.min(), x.max())

# SPDX-License-Identifier: Apache-2.0
"""Published guidance of all channels by two passes, conditional and unconditional.

- DDT: e = uncond + scale (cond - uncond);
- JiT: the same for the velocities (x0 - x) / max(1 - t, t_eps) that follow from predictions of x0,
  with t from 0 = noise to 1 = data, and scale 1 outside an interval of times.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Predict = Callable[[Tensor], Tensor]
"""Class ids (N,) -> published output (N, C, H, W) for fixed latents and times."""
Interval = tuple[float, float] | Tensor
"""(low, high) of times."""


def guide(predict: Predict, y: Tensor, null: int, scale: Tensor | float) -> Tensor:
    """Guided output.

    Args:
        predict: the model for fixed latents and times.
        y: class ids.
        null: id of the null class.
        scale: one number, or one per image.
    """
    conditional, unconditional = predict(y), predict(torch.full_like(y, null))
    scales = torch.as_tensor(scale).to(conditional).reshape(-1, 1, 1, 1)
    return unconditional + scales * (conditional - unconditional)


def guide_velocity(
    predict: Predict,
    x: Tensor,
    t: Tensor,
    y: Tensor,
    null: int,
    scale: Tensor | float,
    interval: Interval | None,
    t_eps: float,
) -> Tensor:
    """Guided velocity, data - noise, of a model that predicts x0.

    Args:
        predict: the model for these latents and times.
        x: latents (N, C, H, W).
        t: published times (N,).
        y, null, scale: as of :func:`guide`.
        interval: guided times; None = all.
        t_eps: smallest divisor of a velocity.
    """
    remaining = (1 - t).clamp(min=t_eps).reshape(-1, 1, 1, 1)
    if interval is not None:
        scale = _interval_scale(scale, t, interval)
    return guide(lambda classes: (predict(classes) - x) / remaining, y, null, scale)


def _interval_scale(scale: Tensor | float, t: Tensor, interval: Interval) -> Tensor:
    """Scale of each image: 1 unless low < t < high; a low end of 0 includes t = 0."""
    low, high = (float(end) for end in interval)
    inside = (t < high) & ((t > low) | (low == 0))
    return torch.where(inside, torch.as_tensor(scale).to(t), torch.ones_like(t))

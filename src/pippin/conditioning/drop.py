# SPDX-License-Identifier: Apache-2.0
"""Random drop of conditions in training: one categorical draw, as guidance needs it."""

import torch
from jaxtyping import Float
from torch import Tensor

from pippin.conditioning.config import ConditioningConfig, DropConfig
from pippin.types import Keep


def draw_keep(
    config: ConditioningConfig,
    draws: Float[Tensor, " batch"],
    field_draws: Float[Tensor, "batch fields"],
) -> Keep:
    """Flags of kept conditions from uniform numbers in [0, 1).

    Args:
        draws: one number per image selects keep, drop control, drop semantics or drop both.
        field_draws: one number per image and control field (high, then low) for ``field_drop``.
    """
    control, semantic = _categorical(config.drop, draws)
    names = config.control.fields
    kept = field_draws >= config.control.field_drop
    return Keep(
        semantic=semantic, control=control, fields=dict(zip(names, kept.unbind(1), strict=True))
    )


def _categorical(drop: DropConfig, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Flags (control kept, semantics kept) from one number per image."""
    edges = torch.tensor([drop.keep, drop.control, drop.semantic]).cumsum(0)
    # 0 keep, 1 drop control, 2 drop semantics, 3 drop both
    outcome = torch.bucketize(draws.contiguous(), edges, right=True)
    return (outcome == 0) | (outcome == 2), outcome <= 1

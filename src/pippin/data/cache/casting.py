# SPDX-License-Identifier: Apache-2.0
"""Casts to the number type of a cache, which may have a smaller range."""

import torch
from torch import Tensor


def cast(values: Tensor, dtype: torch.dtype, what: str, setting: str) -> Tensor:
    """The values in the type of a cache.

    Args:
        values: output of an encoder.
        dtype: type on disk.
        what: plural name of the values, for messages.
        setting: setting of the type.

    Raises:
        ValueError: a value is not finite, or beyond the range of the type.
    """
    stored = values.to(dtype)
    if bool(stored.isfinite().all()):
        return stored
    if not bool(values.isfinite().all()):
        raise ValueError(
            f"{what} must be finite; the encoder returned NaN or infinite values: check its "
            "weights"
        )
    name = str(dtype).removeprefix("torch.")
    raise ValueError(
        f"{what} reach {float(values.abs().max()):g}, and {setting} {name} stores numbers up to "
        f"{torch.finfo(dtype).max:g} only: set --{setting} bfloat16 or float32"
    )

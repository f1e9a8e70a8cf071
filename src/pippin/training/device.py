# SPDX-License-Identifier: Apache-2.0
"""Which device a run uses, and in which precision."""

from contextlib import AbstractContextManager

import torch


def resolve_device(name: str) -> torch.device:
    """``auto`` is cuda where there is one, otherwise cpu.

    Raises:
        ValueError: a device torch does not know or this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used ({reason}); try auto or cpu") from error
    return torch.device(name)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """bf16 autocast of matrix products, or nothing for fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")

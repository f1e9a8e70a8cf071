# SPDX-License-Identifier: Apache-2.0
"""Which device a run uses, and in which precision."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def resolve_device(name: str) -> torch.device:
    """``auto`` is cuda where there is one, otherwise cpu. What is computed in fp32 is so on all.

    Raises:
        ValueError: a device torch does not know or this machine does not have.
    """
    # Torch's default lets cuDNN round what convolutions in fp32 multiply to TF32's 10 bits. The
    # older of its two switches: Inductor's convolutions ask for it, and cannot where only the
    # newer one (cudnn.conv.fp32_precision) was set. Products of matrices are exact by default.
    torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used ({reason}); try auto or cpu") from error
    return torch.device(name)


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The same numbers there, without waiting for what a card still computes: a copy from memory
    that the system may move waits. Check values before: asking for one that is there waits."""
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """bf16 autocast of matrix products, or nothing for fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")

# SPDX-License-Identifier: Apache-2.0
"""Device and precision of a run."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor


def resolve_device(name: str) -> torch.device:
    """Device of a name; ``auto`` is cuda if available, otherwise cpu. Turns TF32 off.

    Raises:
        ValueError: a device that torch does not know or this machine lacks.
    """
    # By default cuDNN rounds the factors of fp32 convolutions to TF32's 10 bits. The older of the
    # two switches is set: Inductor reads it, and fails if only the newer one
    # (cudnn.conv.fp32_precision) was set. Matrix products are exact by default.
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
    """Copy a tensor to a device without synchronising with the GPU: a copy from pageable memory
    would wait. Check values on the CPU before: reading one from the GPU waits."""
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def autocast(
    device: torch.device, precision: str, *, cache: bool = True
) -> AbstractContextManager[None]:
    """Autocast to bf16, or a disabled context for fp32.

    Args:
        cache: keep rounded weights for later uses inside the outermost context. False where there
            are no gradients: later uses, with gradients, would get none.
    """
    enabled = precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=cache)


def cpu_capabilities() -> Mapping[str, object]:
    """Instruction sets and sizes of the CPU by name, as torch reports them; older versions report
    none."""
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return capabilities


def emulates_bf16(device: torch.device) -> bool:
    """Whether a device is an x86 CPU of which torch reports no bf16 units, so that bf16 is several
    times as slow as fp32. False for other CPUs, which were not measured, and for a torch that
    reports no CPU."""
    is_x86 = cpu_capabilities().get("architecture") == "x86_64"
    return device.type == "cpu" and is_x86 and not cpu_has_bf16_units()


def slow_bf16_note(
    device: torch.device, setting: str, precision: str, remedy: str | None = None
) -> str | None:
    """Note on bf16 on a CPU that emulates it; None where none is needed.

    Args:
        device: of the computation.
        setting: the setting that has the precision, such as ``train.precision``.
        precision: its value.
        remedy: what to do about it; None = the option that turns it off.
    """
    if precision != "bf16" or not emulates_bf16(device):
        return None
    remedy = remedy or f"type --{setting} fp32, which is another protocol"
    return (
        f"{setting} bf16 is several times as slow as fp32 on this CPU: torch reports no bf16 "
        f"units (AVX512-BF16 or AMX); {remedy}"
    )


def cpu_has_bf16_units() -> bool:
    """Whether an x86 CPU multiplies bf16 matrices in hardware (AVX512-BF16 or AMX). False for
    other CPUs, which were not measured, and for a torch that does not report it."""
    capabilities = cpu_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))

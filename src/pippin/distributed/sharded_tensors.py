# SPDX-License-Identifier: Apache-2.0
"""Sharded tensors (torch's DTensor) and full tensors."""

from collections.abc import Mapping

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """Full tensor on every rank; all ranks must call it. A full tensor is returned unchanged."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Shard a full tensor like ``like``, without communication. A tensor of another shape, such as
    a step count, stays full."""
    if not isinstance(like, DTensor) or isinstance(tensor, DTensor) or tensor.shape != like.shape:
        return tensor
    # Every rank has the same full tensor, so none has to broadcast it.
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def gather_full_tensors(
    tensors: Mapping[str, Tensor], *, keep: bool, to_cpu: bool = False
) -> dict[str, Tensor]:
    """Full tensors by name; sharded ones are gathered to the CPU. Ranks without ``keep`` must
    call it too and get {}. ``to_cpu``: all tensors on the CPU, and unsharded ones as
    copies.
    """
    full = {}
    for name, tensor in tensors.items():
        value = full_tensor(tensor)
        if keep:
            sharded = isinstance(tensor, DTensor)  # gathering made a new tensor
            if sharded or to_cpu:
                value = value.to("cpu", copy=not sharded)
            full[name] = value
    return full

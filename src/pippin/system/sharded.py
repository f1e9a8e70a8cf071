# SPDX-License-Identifier: Apache-2.0
"""Tensors of which each process holds a part (torch's DTensor), and whole ones."""

from collections.abc import Mapping

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, in every process; all of them must ask. A whole one stays what it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def laid_out_as(tensor: Tensor, like: Tensor) -> Tensor:
    """The part of a whole tensor that this process holds of ``like``, without communication; a
    tensor of another shape, such as a count of steps, stays whole."""
    if not isinstance(like, DTensor) or isinstance(tensor, DTensor) or tensor.shape != like.shape:
        return tensor
    # Every process has the same whole tensor, so none has to send its own.
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def gathered(
    tensors: Mapping[str, Tensor], *, keep: bool, apart: bool = False
) -> dict[str, Tensor]:
    """Whole tensors by name, on the CPU where they were shared; {} in processes without ``keep``,
    which must call it all the same. ``apart``: on the CPU, and copies where they were not shared.
    """
    found = {}
    for name, tensor in tensors.items():
        value = whole(tensor)
        if keep:
            shared = isinstance(tensor, DTensor)  # so that putting it together made a new one
            found[name] = value.to("cpu", copy=apart and not shared) if shared or apart else value
    return found

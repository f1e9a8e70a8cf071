# SPDX-License-Identifier: Apache-2.0
"""Bytes that autograd keeps of a batch from forward to backward; nothing is computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pippin.conditioning.config import ConditioningConfig
from pippin.denoisers.config import DenoiserConfig
from pippin.model import LatentDenoiser
from pippin.run.cost import meta_model, trial_outputs
from pippin.training.recompute import recompute_blocks


class Activations(NamedTuple):
    """Bytes that the denoiser keeps from forward to backward."""

    per_image: int
    fixed: int
    """Whatever the batch: under bf16 autocast the bf16 copies of the weights."""
    largest_block: int
    """Of one image, in the block that keeps most."""


def activation_bytes(model: LatentDenoiser, latent_shape: tuple[int, int, int]) -> int:
    """Bytes that the denoiser keeps of one image from forward to backward, in fp32: an estimate.

    The rule: autograd's saved tensors are gathered on the meta device, each piece of memory is
    counted once, weights are left out, and a masked pass is counted at the mean share of hidden
    tokens. Attention is taken as a fused kernel, which keeps queries, keys, values, result and
    bias, not the scores. Weights, gradients, optimizer, EMA and passing work space come on top;
    :func:`activations` knows bf16.

    Args:
        model: of :func:`pippin.run.cost.meta_model`.
        latent_shape: (channels, height, width).
    """
    with _gathered(model) as kept, _Kernels():
        outputs = trial_outputs(model, latent_shape, training=True)
    del outputs
    return _bytes(kept)


def activations(
    conditioning: ConditioningConfig,
    denoiser: DenoiserConfig,
    latent_shape: tuple[int, int, int],
    *,
    precision: str,
    every: int = 0,
) -> Activations:
    """What is kept of a batch, by the rule of :func:`activation_bytes`, in fp32 or under autocast.

    The meta device has no autocast: its rules for what a denoiser calls are written out here, as
    they are on CUDA. A batch of two against one of one tells what grows with it.

    Args:
        conditioning: says what the denoiser reads.
        denoiser: which.
        latent_shape: (channels, height, width).
        precision: fp32 or bf16.
        every: every n-th block computes its activations again; 0 = none.
    """
    (one, blocks), (two, blocks_of_two) = (
        _kept(conditioning, denoiser, latent_shape, precision, every, batch) for batch in (1, 2)
    )
    grown = [b - a for a, b in zip(blocks, blocks_of_two, strict=True)]
    fixed = max(0, 2 * one - two)  # a masked pass rounds its tokens
    return Activations(per_image=two - one, fixed=fixed, largest_block=max(grown))


def _kept(
    conditioning: ConditioningConfig,
    denoiser: DenoiserConfig,
    latent_shape: tuple[int, int, int],
    precision: str,
    every: int,
    batch: int,
) -> tuple[int, list[int]]:
    """Bytes in all, and of each call of a block."""
    model = meta_model(conditioning, denoiser, 1, latent_shape[0])
    recompute_blocks(model.denoiser.blocks, every)
    with (
        _gathered(model) as kept,
        _per_block(model.denoiser.blocks, kept) as blocks,
        _Kernels(bf16=precision == "bf16"),
    ):
        outputs = trial_outputs(model, latent_shape, training=True, batch=batch)
    del outputs
    return _bytes(kept), blocks


@contextmanager
def _gathered(model: nn.Module) -> Iterator[dict[int, Tensor]]:
    """What autograd saves inside, by its memory; the weights are left out."""
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, Tensor] = {}  # holds the tensors, so that no address comes twice

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in weights:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        yield kept


@contextmanager
def _per_block(blocks: nn.ModuleList, kept: dict[int, Tensor]) -> Iterator[list[int]]:
    """By how much what is kept grows in each call of a block."""
    before: list[int] = []
    grown: list[int] = []

    def enter(*_: Any) -> None:
        before.append(_bytes(kept))

    def leave(*_: Any) -> None:
        grown.append(_bytes(kept) - before.pop())

    handles = [block.register_forward_pre_hook(enter) for block in blocks]
    handles += [block.register_forward_hook(leave) for block in blocks]
    yield grown
    for handle in handles:
        handle.remove()


def _bytes(kept: dict[int, Tensor]) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


_IN_BF16 = (F.linear, F.conv2d, torch.matmul, Tensor.matmul, Tensor.__matmul__)
"""What denoisers call of the operations that autocast runs in bf16, attention apart."""
_IN_FP32 = (F.layer_norm, F.group_norm)
"""Of those that it runs in fp32 on CUDA."""


class _Kernels(TorchFunctionMode):
    """The operations that a device would run: fused attention, and under bf16 autocast its casts.

    On the meta device torch splits attention into plain products; here it is one operation.
    """

    def __init__(self, *, bf16: bool = False) -> None:
        super().__init__()
        self.bf16 = bf16
        self.copies: dict[int, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return _Attention.apply(*map(self._cast, args), self._cast(kwargs.get("attn_mask")))
        if self.bf16 and func in _IN_BF16:
            args = [self._cast(x) for x in args]
            kwargs = {name: self._cast(x) for name, x in kwargs.items()}
        if self.bf16 and func in _IN_FP32:
            args = (args[0].float(), *args[1:])
        return func(*args, **kwargs)

    def _cast(self, value: Any) -> Any:
        """To bf16; a weight once, as autocast keeps its copy for a second use."""
        if not self.bf16 or not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        if not isinstance(value, nn.Parameter):
            return value.to(torch.bfloat16)
        if id(value) not in self.copies:
            self.copies[id(value)] = value.to(torch.bfloat16)
        return self.copies[id(value)]


class _Attention(torch.autograd.Function):
    """Shapes of a fused attention and what it keeps; there is no backward."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any) -> Tensor:
        batch, heads, places, _ = query.shape
        # laid out as the kernels do, so that putting heads side by side copies nothing
        result = query.new_empty(batch, places, heads, value.shape[-1]).transpose(1, 2)
        sums = query.new_empty(batch, heads, places, dtype=torch.float32)  # log of softmax's sums
        ctx.save_for_backward(query, key, value, result, sums, mask)
        return result

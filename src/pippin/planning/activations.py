# SPDX-License-Identifier: Apache-2.0
"""Memory of saved activations: what the denoiser keeps from forward to backward."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pippin.conditioning.config import ConditioningConfig
from pippin.denoisers.config import DenoiserConfig
from pippin.evaluation.metrics.cost import trial_outputs
from pippin.evaluation.metrics.shape_memo import ShapeMemo
from pippin.model import LatentDenoiser
from pippin.planning.states import training_model
from pippin.training.blocks import checkpoint_blocks
from pippin.training.repa.config import NO_REPA, RepaConfig


class Activations(NamedTuple):
    """Bytes that the denoiser keeps from forward to backward."""

    per_image: int
    fixed: int
    """Independent of the batch size: under bf16 autocast the bf16 copies of the weights."""
    largest_block: int
    """Largest share of one block, for one image."""


def activation_bytes(
    model: LatentDenoiser, latent_shape: tuple[int, int, int], mask_ratio: float = 0.0
) -> int:
    """Estimate the bytes that the denoiser saves for the backward pass of one image, in fp32.

    The saved tensors of autograd are collected on the meta device. Each storage counts once,
    weights do not count, and a masked pass counts at the mean share of hidden tokens. Attention
    counts as a fused kernel, which saves queries, keys, values, output and bias, not the scores.
    Weights, gradients, optimizer, EMA and temporary workspace come on top;
    :func:`activations` covers bf16.

    Args:
        model: built by :func:`pippin.evaluation.metrics.cost.meta_model`.
        latent_shape: (channels, height, width).
        mask_ratio: share of tokens that deferred masking hides.
    """
    with _saved_tensors(model) as saved, _Kernels(), ShapeMemo():
        outputs = trial_outputs(model, latent_shape, training=True, mask_ratio=mask_ratio)
    del outputs
    return _bytes(saved)


@lru_cache(maxsize=16)
def activations(
    conditioning: ConditioningConfig,
    denoiser: DenoiserConfig,
    latent_shape: tuple[int, int, int],
    *,
    precision: str,
    every: int = 0,
    repa: RepaConfig = NO_REPA,
    mask_ratio: float = 0.0,
) -> Activations:
    """Estimate the activations of a batch as :func:`activation_bytes` does, in fp32 or autocast.

    The meta device has no autocast. The casts of the operations that denoisers call are therefore
    written out here, as they are on CUDA. Batches of one and two show what grows with the batch.
    The last results are kept: plans differ in devices and batch sizes more often than in models.

    Args:
        conditioning: inputs of the denoiser.
        denoiser: architecture and size.
        latent_shape: (channels, height, width).
        precision: fp32 or bf16.
        every: recompute the activations of every n-th block; 0 = none.
        repa: whose projector counts too.
        mask_ratio: share of tokens that deferred masking hides.
    """
    model = training_model(conditioning, denoiser, 1, latent_shape[0], repa)
    checkpoint_blocks(model.denoiser.blocks, every)
    (first, first_blocks), (second, second_blocks) = (
        _saved_bytes(model, latent_shape, precision, batch, mask_ratio) for batch in (1, 2)
    )
    growth = [b - a for a, b in zip(first_blocks, second_blocks, strict=True)]
    fixed = max(0, 2 * first - second)  # a masked pass rounds its tokens
    return Activations(per_image=second - first, fixed=fixed, largest_block=max(growth))


def _saved_bytes(
    model: LatentDenoiser,
    latent_shape: tuple[int, int, int],
    precision: str,
    batch: int,
    mask_ratio: float,
) -> tuple[int, list[int]]:
    """Total saved bytes, and those of each call of a block."""
    with (
        _saved_tensors(model) as saved,
        _saved_per_block(model.denoiser.blocks, saved) as blocks,
        _Kernels(bf16=precision == "bf16"),
        ShapeMemo(),
    ):
        outputs = trial_outputs(
            model, latent_shape, training=True, batch=batch, mask_ratio=mask_ratio
        )
    del outputs
    return _bytes(saved), blocks


@contextmanager
def _saved_tensors(model: nn.Module) -> Iterator[dict[int, Tensor]]:
    """Collect the tensors that autograd saves inside, by storage; weights are left out."""
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    saved: dict[int, Tensor] = {}  # holds the tensors, so that no address comes twice

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in weights:
            saved[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        yield saved


@contextmanager
def _saved_per_block(blocks: nn.ModuleList, saved: dict[int, Tensor]) -> Iterator[list[int]]:
    """Record how many bytes each call of a block adds to the saved tensors."""
    before: list[int] = []
    growth: list[int] = []

    def enter(*_: Any) -> None:
        before.append(_bytes(saved))

    def leave(*_: Any) -> None:
        growth.append(_bytes(saved) - before.pop())

    handles = [block.register_forward_pre_hook(enter) for block in blocks]
    handles += [block.register_forward_hook(leave) for block in blocks]
    yield growth
    for handle in handles:
        handle.remove()


def _bytes(tensors: dict[int, Tensor]) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors.values())


_IN_BF16 = (F.linear, F.conv2d, torch.matmul, Tensor.matmul, Tensor.__matmul__)
"""Operations of denoisers that autocast runs in bf16, apart from attention."""
_IN_FP32 = (F.layer_norm, F.group_norm)
"""Operations of denoisers that autocast runs in fp32 on CUDA."""


class _Kernels(TorchFunctionMode):
    """Emulates device kernels: fused attention, and the casts of bf16 autocast.

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
        """Cast to bf16; a weight only once, as autocast caches its copy."""
        if not self.bf16 or not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        if not isinstance(value, nn.Parameter):
            return value.to(torch.bfloat16)
        if id(value) not in self.copies:
            self.copies[id(value)] = value.to(torch.bfloat16)
        return self.copies[id(value)]


class _Attention(torch.autograd.Function):
    """Shapes and saved tensors of fused attention; there is no backward."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any) -> Tensor:
        batch, heads, tokens, _ = query.shape
        # the kernels' memory layout, so that concatenating the heads copies nothing
        result = query.new_empty(batch, tokens, heads, value.shape[-1]).transpose(1, 2)
        sums = query.new_empty(batch, heads, tokens, dtype=torch.float32)  # log-sum-exp of softmax
        ctx.save_for_backward(query, key, value, result, sums, mask)
        return result

# SPDX-License-Identifier: Apache-2.0
"""Memory of a training run: saved activations, and the states of weights and optimizer."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pippin.conditioning.config import ConditioningConfig, TextSemantic
from pippin.control import Size
from pippin.data.config import ImagesConfig, NoDataConfig, OpenMojiConfig, ShapesConfig
from pippin.data.views.crop import whole_image
from pippin.denoisers.config import DenoiserConfig
from pippin.evaluation.metrics.cost import meta_model, trial_outputs
from pippin.evaluation.metrics.shape_memo import ShapeMemo
from pippin.model import LatentDenoiser, sampled_parameters
from pippin.recipes.recipe import Recipe, Shape, latent_layout
from pippin.training.blocks import checkpoint_blocks
from pippin.training.config import TrainConfig
from pippin.training.muon import ITERATIONS, Muon
from pippin.training.optimizer import build_optimizers, state_bytes
from pippin.training.repa.config import NO_REPA, RepaConfig
from pippin.training.repa.projector import add_projector, planned_width
from pippin.types import stack_controls


def training_model(
    conditioning: ConditioningConfig,
    denoiser: DenoiserConfig,
    num_classes: int,
    channels: int,
    repa: RepaConfig,
) -> LatentDenoiser:
    """:func:`pippin.evaluation.metrics.cost.meta_model` with the projector that training adds."""
    model = meta_model(conditioning, denoiser, num_classes, channels)
    if repa.enabled:
        with torch.device("meta"):
            add_projector(model, repa, planned_width(repa), None)
    return model


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


IMAGENET_CLASSES = 1000
IMAGENET_IMAGES = 1_281_167
"""Training images of ILSVRC 2012 (Russakovsky et al. 2015, arXiv 1409.0575)."""
CC12M_IMAGES = 12_423_374
"""Pairs of the published list of Conceptual 12M (Changpinyo et al. 2021, arXiv 2102.08981)."""
FP32 = 4
"""Bytes per number: weights, gradients, optimizer and EMA are fp32 at every precision."""


class States(NamedTuple):
    """Bytes of one full copy of each state, and the optimizer's FLOPs in a step."""

    weights: int
    gradients: int
    optimizer: int
    ema: int
    optimizer_flops: int
    """FLOPs of Muon's matrix products; elementwise work is left out."""

    @property
    def checkpoint(self) -> int:
        """Bytes of a checkpoint: weights, EMA, optimizer."""
        return self.weights + self.ema + self.optimizer


def training_states(model: LatentDenoiser, train: TrainConfig) -> States:
    """Estimate the states of training a model.

    Every EMA is as large as the weights, without those of a projector.

    Args:
        model: built by :func:`training_model`.
        train: configuration of optimizers and averages.
    """
    parameters = FP32 * sum(p.numel() for p in model.parameters())
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    optimizer = flops = 0
    for member in build_optimizers(model, train):
        optimizer += state_bytes(member)
        if isinstance(member, Muon):
            owned = [p for group in member.param_groups for p in group["params"]]
            flops += sum(orthogonalise_flops(p.shape[0], p.numel() // p.shape[0]) for p in owned)
    return States(
        weights=parameters + buffers,
        gradients=parameters,
        optimizer=optimizer,
        ema=FP32 * sum(p.numel() for _, p in sampled_parameters(model)) * len(train.averages),
        optimizer_flops=flops,
    )


def orthogonalise_flops(rows: int, columns: int) -> int:
    """FLOPs of :func:`pippin.training.muon.orthogonalise` on a GPU, where ``train.muon_gram`` has
    no effect: with m the smaller side and n the other, an iteration multiplies (m, n) (n, m),
    (m, m) (m, m) and (m, m) (m, n)."""
    m, n = sorted((rows, columns))
    return ITERATIONS * (4 * m * m * n + 2 * m * m * m)


def num_classes_of(recipe: Recipe) -> int:
    """Number of classes: OpenMoji's groups, those of shapes, a converted model's classes, or
    ImageNet's where the data settings do not say."""
    if isinstance(recipe.data, NoDataConfig):
        return recipe.data.num_classes
    if isinstance(recipe.data, OpenMojiConfig):
        from pippin.data.sources.openmoji import CLASSES

        return len(CLASSES)
    if isinstance(recipe.data, ShapesConfig):
        from pippin.data.sources.shapes.shapes_source import ShapesSource

        return len(ShapesSource(recipe.data, "train").class_names)
    return IMAGENET_CLASSES


def num_training_images(recipe: Recipe) -> int | None:
    """Number of training images of OpenMoji and of shapes; ImageNet's for recipes that follow a
    paper, or CC12M's where they read text; None where it is unknown."""
    if isinstance(recipe.data, OpenMojiConfig):
        from pippin.data.sources.openmoji import OpenMojiSource

        return len(OpenMojiSource(recipe.data, "train"))
    if isinstance(recipe.data, ShapesConfig):
        return recipe.data.images
    if not isinstance(recipe.data, ImagesConfig) or recipe.family not in ("paper", "published"):
        return None
    reads_text = isinstance(recipe.conditioning.semantic, TextSemantic)
    count = CC12M_IMAGES if reads_text else IMAGENET_IMAGES
    return min(count, recipe.data.max_pictures or count)


def latent_bytes(recipe: Recipe, shape: Shape) -> int:
    """Bytes of the latent cache per image: for each view the moments' means, their deviations
    unless the encoder is deterministic, the control record, and three integers. 0 where nothing is
    cached."""
    if isinstance(recipe.data, NoDataConfig) or not recipe.cache.enabled:
        return 0
    item = torch.empty((), dtype=getattr(torch, recipe.cache.dtype)).element_size()
    control = stack_controls([whole_image(Size(256, 256))]).values()
    channels, height, width = shape
    num_moments = 2 if latent_layout(recipe).has_variance else 1
    view = num_moments * channels * height * width * item + sum(x.nbytes for x in control) + 3 * 8
    return recipe.data.views * view


def feature_bytes(recipe: Recipe, shape: Shape) -> int:
    """Bytes of the cache of REPA's features per image: for each view one float16 vector a token,
    and two integers. 0 where there are none."""
    repa = recipe.train.repa
    if isinstance(recipe.data, NoDataConfig) or not repa.enabled:
        return 0
    tokens = shape[1] * shape[2] // recipe.denoiser.side_multiple**2
    return recipe.data.views * (tokens * planned_width(repa) * torch.float16.itemsize + 2 * 8)


def text_bytes(recipe: Recipe) -> int:
    """Bytes of the caption cache per image, if no two images share a caption: for each kind of
    caption tokens, mask, truncation flag and, where the model reads it, the pooled vector."""
    semantic = recipe.conditioning.semantic
    if not isinstance(semantic, TextSemantic):
        return 0
    item = torch.empty((), dtype=getattr(torch, recipe.text.dtype)).element_size()
    tokens = semantic.num_tokens * ((semantic.token_features or 0) * item + 1)
    return len(recipe.text.captions) * (tokens + 1 + (semantic.pooled_features or 0) * item)

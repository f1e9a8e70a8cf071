# SPDX-License-Identifier: Apache-2.0
"""What a model costs for one image: parameters, FLOPs forward or of a whole step, memory."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from pippin.conditioning.config import ConditioningConfig
from pippin.denoisers.config import DenoiserConfig
from pippin.evaluation.measure import Measure
from pippin.model import LatentDenoiser, build_model
from pippin.recipes.recipe import Recipe
from pippin.types import Embedded, Masking


def cost_measures(
    recipe: Recipe, num_classes: int, latent_shape: tuple[int, int, int]
) -> list[Measure]:
    """``parameters`` of the whole model, and ``MACs`` of the denoiser (1 MAC = 2 FLOPs)."""
    model = meta_model(recipe.conditioning, recipe.denoiser, num_classes, latent_shape[0])
    parameters = sum(p.numel() for p in model.parameters())
    return [
        _exact("parameters", parameters, ""),
        _exact("MACs", denoiser_flops(model, latent_shape) // 2, "multiply-accumulates per image"),
    ]


def meta_model(
    conditioning: ConditioningConfig, denoiser: DenoiserConfig, num_classes: int, channels: int
) -> LatentDenoiser:
    """On the meta device nothing is computed, and attention is counted too."""
    with torch.device("meta"):
        return build_model(
            conditioning, denoiser, num_classes=num_classes, latent_channels=channels, seed=None
        )


def denoiser_flops(
    model: LatentDenoiser, latent_shape: tuple[int, int, int], *, backward: bool = False
) -> int:
    """FLOPs of the denoiser for one image: forward, or forward and backward.

    The conditioner, which works on one vector an image, and all elementwise work are left out, as
    is customary. A masked pass, which only training makes, is counted with ``backward``, at the
    mean share of hidden tokens.

    Args:
        model: of :func:`meta_model`.
        latent_shape: (channels, height, width).
        backward: count the gradients of weights and conditions too.
    """
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        outputs = _outputs(model, latent_shape, training=backward)
        if backward:
            torch.stack([x.sum() for x in outputs]).sum().backward()
    return counter.get_total_flops()


def activation_bytes(model: LatentDenoiser, latent_shape: tuple[int, int, int]) -> int:
    """Bytes that the denoiser keeps of one image from forward to backward, in fp32: an estimate.

    The rule: autograd's saved tensors are gathered on the meta device, each piece of memory is
    counted once, weights are left out, and a masked pass is counted at the mean share of hidden
    tokens. Attention is taken as a fused kernel, which keeps queries, keys, values, result and
    bias, not the scores. Weights, gradients, optimizer, EMA and passing work space come on top;
    under bf16 autocast it is between half as much and as much, by what stays in fp32.

    Args:
        model: of :func:`meta_model`.
        latent_shape: (channels, height, width).
    """
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, Tensor] = {}  # holds the tensors, so that no address comes twice

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in weights:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), _FusedAttention():
        outputs = _outputs(model, latent_shape, training=True)
    del outputs
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _outputs(
    model: LatentDenoiser, latent_shape: tuple[int, int, int], *, training: bool
) -> list[Tensor]:
    """What the denoiser predicts of one image; in training also by its masked pass."""
    widths, door = model.denoiser.widths, model.conditioner
    trained: dict[str, Any] = {
        "device": "meta",
        "requires_grad": training,
    }  # gradients flow to the conditioner
    tokens = torch.empty(1, door.num_tokens, widths.token, **trained) if door.has_tokens else None
    embedded = Embedded(tokens=tokens, modulation=torch.empty(1, widths.modulation, **trained))
    x_t = torch.empty(1, *latent_shape, device="meta")
    count = model.denoiser.num_maskable(latent_shape) if training else 0
    order = torch.empty(1, count, device="meta")
    masking = Masking(order=order, ratio=0.5) if count else None
    prediction = model.denoiser(x_t, embedded, masking)
    aux = prediction.aux
    outputs = [prediction.mean, prediction.variance]
    outputs += [] if aux is None else [aux.mean, aux.variance]
    return [x for x in outputs if x is not None]


class _FusedAttention(TorchFunctionMode):
    """On the meta device torch splits attention into plain products; here it is one operation."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return _Attention.apply(*args, (kwargs or {}).get("attn_mask"))
        return func(*args, **(kwargs or {}))


class _Attention(torch.autograd.Function):
    """Shapes of a fused attention and what it keeps; there is no backward."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any) -> Tensor:
        result = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, result, mask)
        return result


def _exact(name: str, value: int, unit: str) -> Measure:
    fixed: dict[str, Any] = {"low": None, "high": None, "interval_over": "none", "n": 1}
    return Measure(name=name, value=float(value), unit=unit, better="neither", **fixed)

# SPDX-License-Identifier: Apache-2.0
"""Model cost for one image: parameters, and FLOPs of a forward pass or of a training step."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import make_dual
from torch.utils.flop_counter import FlopCounterMode

from pippin.conditioning.config import ConditioningConfig
from pippin.denoisers.config import DenoiserConfig
from pippin.diffusion.config import NO_MEANFLOW, MeanFlowConfig
from pippin.diffusion.forward_derivative import forward_derivatives
from pippin.evaluation.measure import Measure
from pippin.evaluation.metric import MetricKind
from pippin.evaluation.metrics.declared.cost import MACS, PARAMETERS
from pippin.evaluation.metrics.shape_memo import FlopCount
from pippin.model import LatentDenoiser, build_model
from pippin.recipes.recipe import Recipe
from pippin.training.masking.config import NO_MASKING, MaskingConfig
from pippin.types import Embedded, Masking


def cost_measures(
    recipe: Recipe, num_classes: int, latent_shape: tuple[int, int, int]
) -> list[Measure]:
    """``parameters`` of the whole model, and ``MACs`` of the denoiser (1 MAC = 2 FLOPs)."""
    model = meta_model(recipe.conditioning, recipe.denoiser, num_classes, latent_shape[0])
    parameters = sum(p.numel() for p in model.parameters())
    return [
        _exact(PARAMETERS, parameters),
        _exact(MACS, denoiser_flops(model, latent_shape) // 2),
    ]


def meta_model(
    conditioning: ConditioningConfig, denoiser: DenoiserConfig, num_classes: int, channels: int
) -> LatentDenoiser:
    """Build a model on the meta device: it computes nothing, and attention FLOPs count too."""
    with torch.device("meta"):
        return build_model(
            conditioning, denoiser, num_classes=num_classes, latent_channels=channels, seed=None
        )


def denoiser_flops(
    model: LatentDenoiser,
    latent_shape: tuple[int, int, int],
    *,
    backward: bool = False,
    mask_ratio: float = 0.0,
) -> int:
    """Count the FLOPs of the denoiser for one image: forward, or forward and backward.

    As is customary, the count leaves out all elementwise work and the conditioner, which processes
    one vector per image. A masked pass, which only training makes, counts with ``backward``, at
    the mean share of hidden tokens. So does REPA's projector, where the model has one.

    Args:
        model: built by :func:`meta_model`.
        latent_shape: (channels, height, width).
        backward: count the gradients of weights and conditions too.
        mask_ratio: share of tokens that deferred masking hides, with ``backward`` only.
    """
    with FlopCount() as count, torch.set_grad_enabled(backward):
        outputs = trial_outputs(model, latent_shape, training=backward, mask_ratio=mask_ratio)
        if backward:
            torch.stack([x.sum() for x in outputs]).sum().backward()
    return count.total


def training_flops(
    model: LatentDenoiser,
    latent_shape: tuple[int, int, int],
    *,
    masking: MaskingConfig = NO_MASKING,
    meanflow: MeanFlowConfig = NO_MEANFLOW,
) -> int:
    """Count the FLOPs of training on one image: forward and backward, the mean over a run with
    and without masking; and what MeanFlow adds without gradient, the derivative for a share of
    the images and guidance for all.

    Args:
        model, latent_shape: as in :func:`denoiser_flops`.
        masking: deferred masking of the run.
        meanflow: whether and how mean velocities are learnt.
    """
    flops = denoiser_flops(model, latent_shape, backward=True)
    if masking.enabled:
        masked = denoiser_flops(model, latent_shape, backward=True, mask_ratio=masking.ratio)
        flops = masking.mean_cost(flops, masked)
    if meanflow.enabled:
        flops += round(meanflow.share * derivative_flops(model, latent_shape))
    if meanflow.guided:
        flops += 2 * denoiser_flops(model, latent_shape)
    return flops


def derivative_flops(model: LatentDenoiser, latent_shape: tuple[int, int, int]) -> int:
    """Count the FLOPs of a forward pass with its derivative along the path (JVP), for one image:
    two passes, and for attention scores and their products with values three."""
    x_t, embedded = _trial_inputs(model, latent_shape, 1, requires_grad=False)

    def dual(tensor: Tensor) -> Tensor:
        return make_dual(tensor, torch.ones_like(tensor))

    with torch.no_grad(), forward_derivatives(), FlopCounterMode(display=False) as counter:
        time = None if embedded.time is None else dual(embedded.time)
        model.denoiser(
            dual(x_t), replace(embedded, modulation=dual(embedded.modulation), time=time)
        )
    return counter.get_total_flops()


def trial_outputs(
    model: LatentDenoiser,
    latent_shape: tuple[int, int, int],
    *,
    training: bool,
    batch: int = 1,
    mask_ratio: float = 0.0,
) -> list[Tensor]:
    """Outputs of the denoiser for a batch; in training also those of its masked pass and of a
    projector, and with a share of hidden tokens those of the kept ones."""
    # gradients flow to the conditioner
    x_t, embedded = _trial_inputs(model, latent_shape, batch, requires_grad=training)
    device = x_t.device
    count = model.denoiser.num_shuffled(latent_shape, mask_ratio) if training else 0
    order = torch.empty(batch, count, device=device)
    share = mask_ratio or None
    masking = Masking(order=order, ratio_position=0.5, hidden_share=share) if count else None
    prediction = model.denoiser(x_t, embedded, masking)
    aux = prediction.aux
    outputs = [prediction.mean, prediction.variance]
    outputs += [] if aux is None else [aux.mean, aux.variance]
    if training and model.projector is not None and prediction.hidden is not None:
        height, width = latent_shape[1:]
        columns = round((prediction.hidden.shape[1] * width / height) ** 0.5)
        grid = (prediction.hidden.shape[1] // columns, columns)  # a convolution reads all tokens
        outputs.append(model.projector(prediction.hidden, grid))
    return [x for x in outputs if x is not None]


def _trial_inputs(
    model: LatentDenoiser, latent_shape: tuple[int, int, int], batch: int, *, requires_grad: bool
) -> tuple[Tensor, Embedded]:
    """Latents and embedded conditions of a batch; ``requires_grad`` of the latter."""
    widths, conditioner = model.denoiser.widths, model.conditioner
    device = next(model.parameters()).device
    trained: dict[str, Any] = {"device": device, "requires_grad": requires_grad}
    tokens = None
    if conditioner.has_tokens:
        tokens = torch.empty(batch, conditioner.num_tokens, widths.token, **trained)
    modulation, time = (torch.empty(batch, widths.modulation, **trained) for _ in range(2))
    embedded = Embedded(tokens=tokens, modulation=modulation, time=time)
    return torch.empty(batch, *latent_shape, device=device), embedded


def _exact(kind: MetricKind, value: int) -> Measure:
    return Measure.of(kind(), float(value), n=1)

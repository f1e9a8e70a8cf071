# SPDX-License-Identifier: Apache-2.0
"""Autoencoder for diffusers' pipelines, which know one factor and at most one shift.

pippin normalises each latent channel, (raw - shift) / scale. Pipelines compute z / scaling_factor
before they decode; only some add shift_factor. An affine that is more than one factor therefore
moves into the 1 x 1 convolutions beside the latents: ``post_quant_conv`` reads scale * z + shift,
and ``quant_conv`` gives means (m - shift) / scale and log-variances v - 2 log scale.

Only AutoencoderKL has these convolutions. Of the other classes, those with a ``scaling_factor``
fit a pipeline if their affine is one factor, and for some one shift.
"""

from typing import Any

import torch
from diffusers import AutoencoderKL, ModelMixin
from torch import Tensor, nn

from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.network_classes import network_class

KL = "AutoencoderKL"
FACTOR_SETTINGS = {
    "AutoencoderDC": ("scaling_factor",),
    "AutoencoderTiny": ("scaling_factor", "shift_factor"),
}
"""Class -> settings by which a pipeline that decodes any class denormalises its latents."""


def autoencoder_obstacle(own: Autoencoder, *, any_class: bool) -> str | None:
    """Reason why no pipeline of diffusers decodes the latents of an autoencoder; None = one does.

    Args:
        own: normalises latents as in the training.
        any_class: whether the pipeline decodes other classes than AutoencoderKL.
    """
    name = own.kind.name
    if name == KL:
        return None
    if name not in FACTOR_SETTINGS or not any_class:
        allowed = f"{KL}, {', '.join(FACTOR_SETTINGS)}" if any_class else KL
        return f"the class of autoencoder.source is {name}, and the pipeline decodes {allowed}"
    shift, scale = own.affine.shift.flatten(), own.affine.scale.flatten()
    has_shift = "shift_factor" in FACTOR_SETTINGS[name]
    if bool((scale != scale[0]).any()) or bool((shift != (shift[0] if has_shift else 0)).any()):
        return (
            f"the channels of the {name} are normalised by different numbers, and its config.json "
            f"holds {' and '.join(FACTOR_SETTINGS[name])} only"
        )
    return None


def pipeline_network(own: Autoencoder) -> ModelMixin:
    """Network whose config.json denormalises latents as pippin does.

    Args:
        own: without an :func:`autoencoder_obstacle`.

    Returns:
        a copy in fp32.
    """
    if own.kind.name == KL:
        return plain_autoencoder(own)
    values = {
        "scaling_factor": 1 / float(own.affine.scale.flatten()[0]),
        "shift_factor": float(own.affine.shift.flatten()[0]),
    }
    kind = own.kind
    config = {
        name: value
        for name, value in own.settings.items()
        if name[0] != "_" and name not in kind.derived
    }
    config |= {name: values[name] for name in FACTOR_SETTINGS[kind.name]}
    network = network_class(kind).from_config(config)
    network.load_state_dict(own.network.state_dict())
    return network.eval()


def plain_autoencoder(own: Autoencoder) -> AutoencoderKL:
    """AutoencoderKL whose latents, times its ``scaling_factor``, are pippin's normalised latents.

    Returns:
        a copy in fp32. Its outputs differ from those of ``own`` by rounding only.
    """
    assert isinstance(own.network, AutoencoderKL)
    shift, scale = (value.flatten().double() for value in (own.affine.shift, own.affine.scale))
    config = {key: value for key, value in own.network.config.items() if key[0] != "_"}
    config |= {"latents_mean": None, "latents_std": None, "shift_factor": 0.0}
    if not bool(shift.any()) and bool((scale == scale[0]).all()):
        return _network(config | {"scaling_factor": 1 / float(scale[0])}, own.network.state_dict())
    config |= {"scaling_factor": 1.0, "use_quant_conv": True, "use_post_quant_conv": True}
    tensors = dict(own.network.state_dict())
    tensors |= _reading(own.network.post_quant_conv, shift, scale)
    tensors |= _writing(own.network.quant_conv, shift, scale)
    return _network(config, tensors)


def _network(config: dict[str, Any], tensors: dict[str, Tensor]) -> AutoencoderKL:
    network = AutoencoderKL.from_config(config)
    network.load_state_dict({name: value.detach().cpu() for name, value in tensors.items()})
    return network.eval()


def _reading(layer: nn.Module | None, shift: Tensor, scale: Tensor) -> dict[str, Tensor]:
    """``post_quant_conv`` that reads normalised latents."""
    weight, bias = _matrix(layer, len(shift))
    return _layer("post_quant_conv", weight * scale, bias + weight @ shift)


def _writing(layer: nn.Module | None, shift: Tensor, scale: Tensor) -> dict[str, Tensor]:
    """``quant_conv`` that gives mean and log-variance of normalised latents."""
    weight, bias = _matrix(layer, 2 * len(shift))
    ones, zeros = torch.ones_like(scale), torch.zeros_like(shift)
    divisor = torch.cat([scale, ones])
    offset = torch.cat([shift / scale, zeros]) + torch.cat([zeros, 2 * scale.log()])
    return _layer("quant_conv", weight / divisor[:, None], bias / divisor - offset)


def _matrix(layer: nn.Module | None, channels: int) -> tuple[Tensor, Tensor]:
    """Weight (out, in) and bias of a 1 x 1 convolution in fp64; None = the identity."""
    if layer is None:
        return torch.eye(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    weight, bias = (layer.state_dict()[name].cpu().double() for name in ("weight", "bias"))
    return weight[:, :, 0, 0], bias


def _layer(name: str, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    return {f"{name}.weight": weight[:, :, None, None].float(), f"{name}.bias": bias.float()}

# SPDX-License-Identifier: Apache-2.0
"""Autoencoder for diffusers' pipelines, which know one factor and at most one shift.

pippin normalises each latent channel, (raw - shift) / scale. Pipelines compute z / scaling_factor
before they decode; only some add shift_factor. An affine that is more than one factor therefore
moves into the 1 x 1 convolutions beside the latents: ``post_quant_conv`` reads scale * z + shift,
and ``quant_conv`` gives means (m - shift) / scale and log-variances v - 2 log scale.
"""

from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from pippin.encoders.autoencoder import Autoencoder


def plain_autoencoder(own: Autoencoder) -> AutoencoderKL:
    """Network whose latents, times its ``scaling_factor``, are pippin's normalised latents.

    Args:
        own: not of the identity ``pippin/pixels``, which has no AutoencoderKL.

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

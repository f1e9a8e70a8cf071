# SPDX-License-Identifier: Apache-2.0
"""Decoder of a representation autoencoder: its start, its loss, and the trained network.

    loss = mean |D(z + sigma n) - x|,  z = E(x),  n ~ N(0, I),  sigma = |tau s|,  s ~ N(0, 1)

where E is the frozen encoder and D the decoder. Each image has one sigma (Zheng et al. 2025, arXiv
2510.11690). The published decoder's loss also has LPIPS and an adversarial term; for the reason
in :mod:`pippin.training.autoencoder.loss` there is no perceptual term here.
"""

import torch
from diffusers.models.autoencoders.vae import Decoder
from jaxtyping import Float
from torch import Tensor, nn

from pippin.encoders.config import AutoencoderTrainConfig
from pippin.encoders.representation.frozen import FrozenEncoder
from pippin.encoders.representation.network import (
    Features,
    RepresentationNetwork,
    build_decoder,
    encode_features,
    pretrained_encoder,
)
from pippin.rng import generator, normal
from pippin.system.device import to_device
from pippin.training.autoencoder.loss import AutoencoderLoss
from pippin.types import Pixels


def build_frozen_encoder(
    config: AutoencoderTrainConfig, device: torch.device
) -> FrozenEncoder | None:
    """The frozen encoder of a training; None for a KL autoencoder.

    Raises:
        ValueError: no such encoder, or its library is not installed.
    """
    if not config.representation.enabled:
        return None
    return pretrained_encoder(config.representation).to(device)


def build_feature_decoder(config: AutoencoderTrainConfig, channels: int) -> Decoder:
    """Initialise a decoder, whose weights depend on ``config.seed`` only.

    Args:
        config: shape and seed.
        channels: number of features of a position.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator("init", config.seed, "autoencoder").initial_seed())
        decoder = build_decoder(
            channels, config.block_channels, config.layers_per_block, config.norm_groups
        )
    return decoder.to(memory_format=torch.channels_last)  # faster convolutions


def representation_loss(
    encoder: FrozenEncoder,
    decoder: nn.Module,
    pixels: Pixels,
    config: AutoencoderTrainConfig,
    step: int,
) -> AutoencoderLoss:
    """Loss of decoding noisy features.

    Args:
        encoder: the frozen encoder.
        decoder: decoder in training.
        pixels: values in [-1, 1].
        config: noise, factor and seed.
        step: number of the step, which the random numbers depend on.
    """
    features = encode_features(encoder, pixels, 2 ** (len(config.block_channels) - 1))
    shape = tuple(features.shape)
    noise = normal(shape, "posterior", config.seed, step)
    scales = normal((shape[0], 1, 1, 1), "posterior", config.seed, step, "scale")
    noisy = add_noise(
        features,
        to_device(noise, pixels.device),
        to_device(scales, pixels.device),
        config.representation.noise,
    )
    pixel = (decoder(noisy).float() - pixels).abs().mean()
    nothing = pixel.new_zeros(())
    return AutoencoderLoss(total=pixel, pixel=pixel, kl=nothing, scale=nothing)


def add_noise(
    features: Features, noise: Features, scales: Float[Tensor, "batch 1 1 1"], tau: float
) -> Features:
    """Features z + |tau s| n.

    Args:
        features: z.
        noise: n, standard normal.
        scales: s, standard normal, one for each image.
        tau: root mean square of the noise's standard deviation.
    """
    return features + (tau * scales).abs() * noise


def assembled(
    encoder: FrozenEncoder, decoder: Decoder, config: AutoencoderTrainConfig
) -> RepresentationNetwork:
    """The network of an autoencoder's folder."""
    return RepresentationNetwork(
        encoder,
        decoder,
        block_channels=config.block_channels,
        layers_per_block=config.layers_per_block,
        norm_groups=config.norm_groups,
    ).eval()

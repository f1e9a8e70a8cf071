# SPDX-License-Identifier: Apache-2.0
"""Representation autoencoder in the place of an AutoencoderKL: frozen encoder, trained decoder.

The folder holds both, so that it loads without the encoder's source. Names of tensors begin with
``encoder`` and ``decoder``.
"""

import hashlib
import json
from collections.abc import Mapping
from operator import index
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.vae import Decoder
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from pippin.encoders.normalisation import ARCHITECTURE
from pippin.encoders.own_network import Decoded, Encoded, OwnNetwork
from pippin.encoders.representation.config import RepresentationConfig
from pippin.encoders.representation.frozen import EFFLITE0, TRANSFORMERS, FrozenEncoder
from pippin.encoders.source import damaged
from pippin.system.tensors import load_tensors
from pippin.system.weight_checks import check_finite, join_names
from pippin.system.weight_folders import find_weights
from pippin.types import Pixels

Features = Float[Tensor, "batch channels latent_height latent_width"]


def pretrained_encoder(config: RepresentationConfig) -> FrozenEncoder:
    """The frozen encoder of a configuration, on the CPU.

    Raises:
        ValueError: see :meth:`VisionTransformer.pretrained`.
    """
    # timm and transformers are imported where they are needed: either takes seconds.
    if config.encoder == EFFLITE0:
        from pippin.encoders.representation.efflite0 import EffLite0Encoder

        return EffLite0Encoder.pretrained().frozen()
    from pippin.encoders.representation.vision_transformers import VisionTransformer

    return VisionTransformer.pretrained(str(config.source)).frozen()


def empty_encoder(settings: dict[str, Any]) -> FrozenEncoder:
    """The frozen encoder of :attr:`FrozenEncoder.settings`, with random weights.

    Raises:
        ValueError: an unknown kind of encoder, or transformers is not installed.
    """
    kind = settings.get("kind")
    if kind == EFFLITE0:
        from pippin.encoders.representation.efflite0 import EffLite0Encoder

        return EffLite0Encoder.empty().frozen()
    if kind == TRANSFORMERS:
        from pippin.encoders.representation.vision_transformers import VisionTransformer

        return VisionTransformer.empty(settings).frozen()
    raise ValueError(
        f"this version reads frozen encoders of kind {EFFLITE0} and {TRANSFORMERS}; the kind of "
        f"this autoencoder's is {kind!r}: use a version that wrote it"
    )


def build_decoder(
    channels: int, block_channels: tuple[int, ...], layers_per_block: int, norm_groups: int
) -> Decoder:
    """Initialise the convolutional decoder of AutoencoderKL, without attention.

    Args:
        channels: number of features of a position.
        block_channels: as in :class:`pippin.encoders.config.AutoencoderTrainConfig`.
        layers_per_block, norm_groups: as there.
    """
    return Decoder(
        in_channels=channels,
        out_channels=3,
        up_block_types=("UpDecoderBlock2D",) * len(block_channels),
        block_out_channels=block_channels,
        layers_per_block=layers_per_block,
        norm_num_groups=norm_groups,
        mid_block_add_attention=False,
    )


class RepresentationNetwork(OwnNetwork):
    """Frozen encoder and decoder, with the interface of AutoencoderKL.

    Raw latents are features, of which each position has mean 0 and variance 1 over its channels.

    Args:
        encoder: the frozen encoder.
        decoder: result of :func:`build_decoder`.
        block_channels, layers_per_block, norm_groups: of the decoder.
    """

    def __init__(
        self,
        encoder: FrozenEncoder,
        decoder: Decoder,
        *,
        block_channels: tuple[int, ...],
        layers_per_block: int,
        norm_groups: int,
    ) -> None:
        settings = encoder.settings
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        super().__init__(
            dict.fromkeys(ARCHITECTURE)
            | {
                "in_channels": 3,
                "out_channels": 3,
                "latent_channels": encoder.channels,
                "block_out_channels": list(block_channels),
                "layers_per_block": layers_per_block,
                # What the encoder computes is part of the architecture, and so of fingerprints.
                "down_block_types": [settings["kind"], digest[:16]],
                "up_block_types": ["UpDecoderBlock2D"] * len(block_channels),
                "norm_num_groups": norm_groups,
                "mid_block_add_attention": False,
                "scaling_factor": None,
                "encoder": settings,
            }
        )
        self.encoder, self.decoder = encoder, decoder
        self.factor = 2 ** (len(block_channels) - 1)

    def encode(self, pixels: Pixels) -> Encoded:
        """Features as latents.

        Args:
            pixels: values in [-1, 1]; sides are multiples of the factor.
        """
        return Encoded(latent=encode_features(self.encoder, pixels, self.factor))

    def decode(self, latents: Features) -> Decoded:
        """Decode features to pixels, which :func:`pippin.encoders.normalisation.to_images`
        clamps."""
        return Decoded(sample=self.decoder(latents))


@torch.no_grad()
def encode_features(encoder: FrozenEncoder, pixels: Pixels, factor: int) -> Features:
    """Features with one position for each square of ``factor`` pixels, in fp32 also under
    autocast: the latents of the finished autoencoder.

    Images are resized (bicubic, antialiased) to the encoder's stride for each position: with a
    factor of 16 and patches of 14 pixels, 256 pixels become 224.
    """
    height, width = (side // factor * encoder.stride for side in pixels.shape[2:])
    with torch.autocast(pixels.device.type, enabled=False):
        pixels = pixels.float()
        if (height, width) != tuple(pixels.shape[2:]):
            pixels = interpolate(pixels, size=(height, width), mode="bicubic", antialias=True)
        return encoder(pixels.clamp(-1, 1)).contiguous()


def _untrained(config: Mapping[str, Any]) -> RepresentationNetwork:
    """Network of a config.json, with random weights.

    Raises:
        KeyError, TypeError: entries are missing, or of another type.
        ValueError: entries that do not fit together, or a library that is not installed.
    """
    shape: dict[str, Any] = {
        "block_channels": tuple(map(index, config["block_out_channels"])),
        "layers_per_block": index(config["layers_per_block"]),
        "norm_groups": index(config["norm_num_groups"]),
    }
    widths, groups = shape["block_channels"], shape["norm_groups"]
    smallest = min(*widths, groups, shape["layers_per_block"])
    if not widths or smallest < 1 or any(width % groups for width in widths):
        raise ValueError(
            "config.json must have block_out_channels that are multiples of norm_num_groups, and "
            f"layers_per_block of 1 or more; got {shape}: download or save the folder again"
        )
    encoder = empty_encoder(dict(config["encoder"]))
    if config["latent_channels"] != encoder.channels:
        raise ValueError(
            f"config.json names {config['latent_channels']!r} latent_channels, and its encoder "
            f"has {encoder.channels}: download or save the folder again"
        )
    return RepresentationNetwork(encoder, build_decoder(encoder.channels, **shape), **shape)


def read_representation(folder: Path, config: Mapping[str, Any]) -> RepresentationNetwork:
    """Load a folder's network; all weights must match.

    Args:
        folder: the folder.
        config: values of its config.json.

    Raises:
        ValueError: damaged or missing entries or weights, or a library that is not installed; the
            message names the folder.
    """
    tensors = load_tensors(find_weights(folder).path)
    try:
        network = _untrained(config)
    except (KeyError, TypeError) as error:
        raise damaged(folder, error) from error
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    own = network.state_dict()
    wrong = sorted(
        {name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape}
        | (own.keys() ^ tensors.keys())
    )
    if wrong:
        raise ValueError(
            f"{folder}: weights and config.json do not match: missing, unknown or of another "
            f"shape ({len(wrong)}): {join_names(wrong)}"
        )
    network.load_state_dict(tensors)
    check_finite(network.state_dict(), str(folder))
    return network

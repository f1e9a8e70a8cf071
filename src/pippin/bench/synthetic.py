# SPDX-License-Identifier: Apache-2.0
"""Synthetic moments in place of a latent cache, for throughput measurements only."""

import torch
from jaxtyping import Int
from torch import Tensor

from pippin.control import Control, Corner, Size
from pippin.data.moments import MomentBatch, check_range
from pippin.types import Moments, stack_controls

CONTROL = Control(
    original_size=Size(256, 256), crop_corner=Corner(0, 0), crop_size=Size(256, 256), flip=False
)


class SyntheticMoments:
    """Random moments with the interface of a latent cache.

    Args:
        latent_shape: (channels, height, width).
        num_classes: labels cycle through them.
        num_images: length of an epoch.
    """

    num_views = 1

    def __init__(
        self, latent_shape: tuple[int, int, int], num_classes: int, num_images: int
    ) -> None:
        draws = torch.Generator().manual_seed(0)
        self._mean = torch.randn(num_images, *latent_shape, generator=draws)
        self._label = torch.arange(num_images) % num_classes

    def __len__(self) -> int:
        """Number of images in one epoch."""
        return len(self._mean)

    def fetch(self, indices: Int[Tensor, " batch"], views: Int[Tensor, " batch"]) -> MomentBatch:
        """See :class:`pippin.data.moments.MomentSource`."""
        check_range("image index", indices, len(self))
        check_range("view", views, self.num_views)
        mean = self._mean[indices]
        return MomentBatch(
            moments=Moments(mean=mean, std=torch.full_like(mean, 0.1)),
            control=stack_controls([CONTROL] * len(indices)),
            label=self._label[indices],
        )

# SPDX-License-Identifier: Apache-2.0
"""Image-shape conditions of PixArt-alpha's multi-scale variant."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pippin.config import ConfigError
from pippin.nn.fourier import TimeEmbedding
from pippin.system.device import to_device
from pippin.types import ControlBatch


class ImageShape(nn.Module):
    """Embedding of height, width and aspect ratio: time features and a small MLP each,
    concatenated to one vector (Chen et al. 2023, section 2.4, and its code).

    Height and width are those of the source image (``original_size``) and share their MLP; the
    aspect ratio is that of the crop.

    Args:
        num_features: number of time features of each number.
        width: width of the vector, a multiple of 3.

    Raises:
        ConfigError: another width.
    """

    def __init__(self, num_features: int, width: int) -> None:
        super().__init__()
        if width % 3:
            raise ConfigError(
                "conditioning.image_shape concatenates three vectors, so that the width of the "
                f"denoiser's modulation must be a multiple of 3; it is {width}: choose a "
                "denoiser of another width (PixArt's XL has 1152), or leave image_shape out"
            )
        self.size = TimeEmbedding(num_features, width // 3)
        self.aspect = TimeEmbedding(num_features, width // 3)

    def forward(self, control: ControlBatch) -> Float[Tensor, "batch width"]:
        """Embed the raw control values of a batch.

        Raises:
            ValueError: a field is missing.
        """
        missing = {"original_size", "crop_size"} - set(control)
        if missing:
            raise ValueError(f"this model reads the image's shape; the batch lacks {missing}")
        device = self.size.linear_in.weight.device
        size, crop = (to_device(control[name], device) for name in ("original_size", "crop_size"))
        parts = [
            self.size(size[:, 0]),
            self.size(size[:, 1]),
            self.aspect(crop[:, 0] / crop[:, 1]),
        ]
        return torch.cat(parts, dim=-1)

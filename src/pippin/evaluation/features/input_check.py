# SPDX-License-Identifier: Apache-2.0
"""Input check of the evaluation networks."""

import torch

from pippin.types import Images


def check_images(images: Images) -> None:
    """Refuse images that would be scaled wrongly.

    Raises:
        ValueError: not uint8 images (batch, 3, height, width).
    """
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
        raise ValueError(
            "feature extraction needs uint8 images (batch, 3, height, width); got "
            f"{images.dtype} {tuple(images.shape)}"
        )

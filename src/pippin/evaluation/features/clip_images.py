# SPDX-License-Identifier: Apache-2.0
"""Image embeddings of a CLIP, for distances between sets of images.

With openai/clip-vit-large-patch14-336 they are those of CMMD (Jayasumana et al. 2024).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from pippin.evaluation.features.input_check import check_images
from pippin.evaluation.metrics.clip_score import Clip
from pippin.types import Images


class ClipImages:
    """Unit-length projected image embeddings of a CLIP in transformers' format.

    Args:
        source: a folder, or a hub name.
        device: device of the network; images are preprocessed on the CPU, as the CLIP's
            preprocessor_config.json says.

    Raises:
        ValueError: no CLIP of that name, files that are missing or inconsistent, or transformers
            is not installed.
    """

    name = "clip"

    def __init__(self, source: str, device: torch.device | str = "cpu") -> None:
        self._clip = Clip(source, device)
        self.dim = self._clip.dim
        self.input_size = self._clip.image_size
        self.fingerprint = self._clip.fingerprint

    def __call__(self, images: Images) -> Float[Tensor, "batch dim"]:
        """Float32 embeddings, on the CPU.

        Raises:
            ValueError: not uint8 images (batch, 3, height, width).
        """
        check_images(images)
        return self._clip.images([images])

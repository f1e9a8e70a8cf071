# SPDX-License-Identifier: Apache-2.0
"""DINOv2 (Oquab et al. 2023, arXiv 2304.07193) from a folder in transformers' format.

Stein et al. (2023, arXiv 2306.04675) find distances in features of its ViT-L/14 closer to human
judgement than FID. All model sizes are supported; their numbers are not comparable, and the
fingerprint distinguishes them.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from pippin.encoders.hub import (
    describe_load_errors,
    load_weights,
    model_fingerprint,
    model_folder,
    model_type,
    transformers_library,
)
from pippin.evaluation.features.input_check import check_images
from pippin.types import Images

INPUT_SIZE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's mean and standard deviation of red, green and blue in [0, 1]."""
PREPROCESSING = (
    f"dinov2: bicubic antialiased resize to {INPUT_SIZE}, ImageNet mean and std, class token "
    "after the last normalisation"
)


class Dinov2:
    """Class-token features; a :class:`pippin.evaluation.features.extraction.FeatureExtractor`.

    Images of any size are resized to 224 (bicubic, antialiased, in float32, the aspect ratio not
    kept) and normalised by ImageNet's mean and standard deviation, whatever the folder's
    preprocessor_config.json says.

    Args:
        source: a folder, or a hub name.
        device: device of the network.
        setting: setting that names the source, for messages.

    Raises:
        ValueError: no DINOv2 of that name, files that are missing, patches that do not divide 224,
            or transformers is not installed.
    """

    name = "dinov2"
    input_size = INPUT_SIZE

    def __init__(
        self,
        source: str,
        device: torch.device | str = "cpu",
        *,
        setting: str = "evaluation.dinov2",
    ) -> None:
        folder = model_folder(source, "DINOv2")
        found_type = model_type(folder)
        if found_type != "dinov2":
            raise ValueError(
                f"{setting}: {source!r} is a {found_type!r} model; give a folder with a "
                "model of type 'dinov2' in transformers' format, such as facebook/dinov2-large"
            )
        transformers = transformers_library("DINOv2")
        with describe_load_errors("the DINOv2", folder, "nothing else"):
            network, _ = load_weights(transformers.Dinov2Model, "the DINOv2", folder)
        if INPUT_SIZE % network.config.patch_size:
            raise ValueError(
                f"{setting}: patches of {network.config.patch_size} pixels do not divide "
                f"images of {INPUT_SIZE}; give a DINOv2 with another patch size"
            )
        self.dim: int = network.config.hidden_size
        self.fingerprint = model_fingerprint(PREPROCESSING, folder)
        self._device = torch.device(device)
        self._network = network.eval().requires_grad_(False).to(self._device)

    @torch.inference_mode()
    def __call__(self, images: Images) -> Float[Tensor, "batch dim"]:
        """Float32 features, on the network's device.

        Raises:
            ValueError: not uint8 images (batch, 3, height, width).
        """
        return self._tokens(images)[:, 0]

    @torch.inference_mode()
    def patches(self, images: Images) -> Float[Tensor, "batch dim rows columns"]:
        """Features of each patch after the last normalisation, on the network's device.

        Raises:
            ValueError: not uint8 images (batch, 3, height, width).
        """
        side = INPUT_SIZE // self._network.config.patch_size
        return self._tokens(images)[:, 1:].transpose(1, 2).unflatten(2, (side, side))

    def _tokens(self, images: Images) -> Float[Tensor, "batch tokens dim"]:
        """The class token and the patch tokens, after the last normalisation."""
        check_images(images)
        pixels = images.to(self._device).float()
        if images.shape[-2:] != (INPUT_SIZE, INPUT_SIZE):
            side = (INPUT_SIZE, INPUT_SIZE)
            pixels = interpolate(pixels, size=side, mode="bicubic", antialias=True).clamp(0, 255)
        mean, std = (pixels.new_tensor(statistics)[:, None, None] for statistics in (MEAN, STD))
        hidden: Tensor = self._network((pixels / 255 - mean) / std).last_hidden_state
        return hidden

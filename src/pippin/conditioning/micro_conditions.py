# SPDX-License-Identifier: Apache-2.0
"""Embeddings of published models for sizes: SDXL's micro-conditions, PixArt's image shape."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pippin.conditioning.control_embedding import unit_values
from pippin.config import ConfigError
from pippin.control import CONTROL_FIELDS
from pippin.nn.embeddings import TimeEmbedding, time_features
from pippin.nn.initialise import Linear, fan_in_uniform
from pippin.system.device import to_device
from pippin.types import ControlBatch, Keep

NUM_FEATURES = 256
"""Number of features per number (``addition_time_embed_dim`` of diffusers' SDXL)."""


class MicroConditions(nn.Module):
    """Micro-conditioning of SDXL (Podell et al. 2023, arXiv 2307.01952, section 2.2).

    Each number of each field, unscaled in its own unit (pixels for sizes and corners), is mapped
    to 256 time-step features. All features are concatenated, in the order of
    :data:`pippin.control.CONTROL_FIELDS`, and go through Linear, SiLU, Linear. Both weights have
    torch's initialisation (uniform within 1 / sqrt(inputs)) and biases are 0, so that control has
    an effect from the first step. The vector is added to the time embedding, constant in time.

    The features of a dropped field are zeros, as in SDXL's released code. If all fields are
    dropped, the vector depends on the biases only: it is learned and independent of control.

    Args:
        names: the fields, in any order.
        width: width of the vector.
    """

    def __init__(self, names: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.names = tuple(name for name in CONTROL_FIELDS if name in names)
        numbers = sum(CONTROL_FIELDS[name].parts for name in self.names)
        self.linear_in = Linear(NUM_FEATURES * numbers, width, init=fan_in_uniform)
        self.linear_out = Linear(width, width, init=fan_in_uniform)

    def forward(self, control: ControlBatch, keep: Keep) -> Float[Tensor, "batch width"]:
        """Embed the raw control values of a batch.

        Raises:
            ValueError: a field is missing, or a value lies outside its range.
        """
        features = []
        for name in self.names:
            unit_values(name, control)  # raises if missing or out of range
            kept = keep.control & keep.fields.get(name, keep.control)
            features.append(raw_features(control[name], kept))
        return self.linear_out(F.silu(self.linear_in(torch.cat(features, dim=-1))))


def raw_features(
    values: Float[Tensor, "batch parts"], kept: Tensor
) -> Float[Tensor, "batch features"]:
    """Time features of each number, on the device of ``kept``; zeros for dropped rows."""
    numbers = to_device(values.float(), kept.device)
    features = time_features(numbers.flatten(), NUM_FEATURES)  # (B * parts, 256)
    return features.reshape(len(values), -1) * kept[:, None]


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

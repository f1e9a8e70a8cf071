# SPDX-License-Identifier: Apache-2.0
"""Embeddings of latents (patches) and of scalars (cosine and sine features)."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pippin.nn.initialise import Linear, normal
from pippin.types import Latents, Prediction, Times


def to_patches(x: Latents, patch_size: int) -> Float[Tensor, "batch tokens features"]:
    """Patchify: patches in row-major order, values of a patch as (channel, row, column).

    Raises:
        ValueError: a side that is not a multiple of the patch size.
    """
    if x.shape[-2] % patch_size or x.shape[-1] % patch_size:
        raise ValueError(
            f"a latent of {x.shape[-2]} x {x.shape[-1]} is not divisible into patches of "
            f"{patch_size}; choose a resolution whose latent sides are multiples of it"
        )
    # (B, C, H, W) -> (B, C, gh, p, gw, p) -> (B, gh, gw, C, p, p)
    x = x.unflatten(-1, (-1, patch_size)).unflatten(-3, (-1, patch_size))
    return x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def from_patches(
    x: Float[Tensor, "batch tokens features"], grid: tuple[int, int], patch_size: int
) -> Latents:
    """Unpatchify a grid of patches whose values are ordered (row, column, channel)."""
    # (B, gh * gw, p * p * C) -> (B, gh, gw, p, p, C) -> (B, C, gh, p, gw, p)
    x = x.unflatten(1, grid).unflatten(-1, (patch_size, patch_size, -1))
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def from_channel_patches(
    x: Float[Tensor, "batch tokens features"], grid: tuple[int, int], patch_size: int
) -> Latents:
    """Inverse of :func:`to_patches`: values of a patch are ordered (channel, row, column)."""
    # (B, gh * gw, C * p * p) -> (B, gh, gw, C, p, p) -> (B, C, gh, p, gw, p)
    x = x.unflatten(1, grid).unflatten(-1, (-1, patch_size, patch_size))
    return x.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def patch_grid(x: Latents, patch_size: int) -> tuple[int, int]:
    """(rows, columns) of patches."""
    return x.shape[-2] // patch_size, x.shape[-1] // patch_size


def split_variance(x: Latents, latent_channels: int) -> Prediction:
    """Split output channels into a prediction: the mean first, then the variance, if any."""
    mean, variance = x[:, :latent_channels], x[:, latent_channels:]
    return Prediction(mean=mean, variance=variance if variance.shape[1] else None)


class PatchEmbedding(nn.Module):
    """Linear embedding of each patch: the strided convolution of ViT as a matrix product."""

    def __init__(self, channels: int, patch_size: int, width: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.linear = Linear(channels * patch_size**2, width)

    def forward(self, x: Latents) -> Float[Tensor, "batch tokens dim"]:
        """(B, C, H, W) -> (B, H/p * W/p, D)."""
        return self.linear(to_patches(x, self.patch_size))


class TimeInput(NamedTuple):
    """Number that time features read, offset + t / divisor, and the range of their frequencies."""

    offset: float = 0.0
    divisor: float = 1.0
    base: float = 10000.0
    """Frequencies fall from 1 to about 1 / base."""

    def of(self, t: Times) -> Times:
        """The number, in fp32, from times in [0, 1000]."""
        unchanged = (self.offset, self.divisor) == (0.0, 1.0)
        return t.float() if unchanged else self.offset + t.float() / self.divisor


DATA_TIME = TimeInput(offset=1.0, divisor=-1000.0)
"""Time from 0 = noise to 1 = data, of SiT and its descendants: 1 - t / 1000."""
INTERVAL = TimeInput(divisor=1000.0)
"""Length of an interval of times, (t - r) / 1000, of MeanFlow."""


def time_features(t: Times, width: int, base: float = 10000.0) -> Float[Tensor, "batch width"]:
    """[cos(t f_k), sin(t f_k)] with f_k = base^(-k / (width / 2)).

    Computed in float32 in exactly this order: the published networks were trained on these values,
    and other orders differ by several 1e-5 near t = 1000.
    """
    half = width // 2
    k = torch.arange(half, dtype=torch.float32, device=t.device)
    angles = t.float()[:, None] * torch.exp(-math.log(base) * k / half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """MLP on time features: Linear, SiLU, Linear."""

    def __init__(self, num_features: int, width: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.input = TimeInput()
        """Number that the features read; a denoiser may declare another."""
        self.linear_in = Linear(num_features, width, init=normal(0.02))
        self.linear_out = Linear(width, width, init=normal(0.02))

    def forward(self, t: Times) -> Float[Tensor, "batch width"]:
        """Embed times in [0, 1000]."""
        features = time_features(self.input.of(t), self.num_features, self.input.base)
        return self.linear_out(F.silu(self.linear_in(features)))

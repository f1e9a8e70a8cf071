# SPDX-License-Identifier: Apache-2.0
"""Moments of prepared images, whether cached or encoded on the fly."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pippin.control import Size
from pippin.data.source import PictureSource
from pippin.data.views import ViewBatch, make_views
from pippin.encoders.pixels import to_pixels
from pippin.types import ControlBatch, Images, Latents, Moments, Pixels


@runtime_checkable
class Encoder(Protocol):
    """What data needs of an autoencoder."""

    @property
    def fingerprint(self) -> str:
        """Changes with the weights, the configuration or the affine."""
        ...

    def encode(self, pixels: Pixels) -> Moments:
        """Posterior moments of images in [-1, 1]."""
        ...

    def draw(self, moments: Moments, noise: Latents) -> Latents:
        """Normalised latents: mean + std * noise, then the autoencoder's own affine."""
        ...


@dataclass(frozen=True, kw_only=True)
class MomentBatch:
    """What is known of a batch before a latent is drawn. All tensors are on the CPU."""

    moments: Moments
    """float32."""
    control: ControlBatch
    label: Int[Tensor, " batch"]


@runtime_checkable
class MomentSource(Protocol):
    """Moments of every view of every picture of one split."""

    num_views: int

    def __len__(self) -> int:
        """How many pictures one epoch has."""
        ...

    def fetch(self, indices: Int[Tensor, " batch"], views: Int[Tensor, " batch"]) -> MomentBatch:
        """Row k is view ``views[k]`` of picture ``indices[k]``.

        Raises:
            ValueError: an index or a view is out of range.
        """
        ...


class EncodedViews:
    """Rasterises and encodes on the fly; gives what a float32 cache gives, to fp32 rounding.

    Args:
        source: the pictures.
        encoder: on ``device``.
        device: where the encoder runs; moments come back to the CPU.
        encode_batch: how many images are encoded at once.
        size: of every view in pixels; None = as :func:`pippin.data.views.view_control`.
    """

    def __init__(
        self,
        source: PictureSource,
        encoder: Encoder,
        *,
        device: torch.device | str = "cpu",
        encode_batch: int = 32,
        size: Size | None = None,
    ) -> None:
        self._source = source
        self._encoder = encoder
        self._device = device
        self._encode_batch = encode_batch
        self._size = size
        self.num_views = source.config.views

    def __len__(self) -> int:
        """How many pictures one epoch has."""
        return len(self._source)

    def fetch(self, indices: Int[Tensor, " batch"], views: Int[Tensor, " batch"]) -> MomentBatch:
        """See :class:`MomentSource`."""
        return self.encoded(self.images(indices, views))

    def images(self, indices: Int[Tensor, " batch"], views: Int[Tensor, " batch"]) -> ViewBatch:
        """The first half of :meth:`fetch`, which another process can do: no encoder is asked."""
        check_range("picture index", indices, len(self))
        return make_views(self._source, indices.tolist(), views.tolist(), self._size)

    def encoded(self, batch: ViewBatch) -> MomentBatch:
        """The second half of :meth:`fetch`, in the process that has the encoder."""
        parts = [
            encode_images(self._encoder, images, self._device)
            for images in batch.images.split(self._encode_batch)
        ]
        moments = Moments(
            mean=torch.cat([part.mean for part in parts]),
            std=torch.cat([part.std for part in parts]),
        )
        return MomentBatch(moments=moments, control=batch.control, label=batch.label)


@torch.no_grad()
def encode_images(encoder: Encoder, images: Images, device: torch.device | str) -> Moments:
    """float32 moments, on the CPU.

    Raises:
        ValueError: a moment is not finite.
    """
    pixels: Float[Tensor, "batch 3 height width"] = to_pixels(images.to(device))
    moments = encoder.encode(pixels)
    # contiguous, because convolutions may answer in the channels-last layout
    mean = moments.mean.float().cpu().contiguous()
    std = moments.std.float().cpu().contiguous()
    if not (mean.isfinite().all() and std.isfinite().all()):
        raise ValueError("the autoencoder gave moments that are not finite; check its weights")
    return Moments(mean=mean, std=std)


def check_range(what: str, values: Int[Tensor, " batch"], length: int) -> None:
    """Refuse numbers outside range(length).

    Raises:
        ValueError: with the first one.
    """
    outside = values[(values < 0) | (values >= length)]
    if len(outside):
        raise ValueError(f"{what} must be in range({length}); got {int(outside[0])}")

# SPDX-License-Identifier: Apache-2.0
"""Posterior moments of prepared images, cached or encoded on the fly."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pippin.control import Size
from pippin.data.source import ImageSource
from pippin.data.views import ViewBatch, make_views
from pippin.encoders.pixels import to_pixels
from pippin.types import ControlBatch, Images, Latents, Moments, Pixels


@runtime_checkable
class Encoder(Protocol):
    """Interface of an autoencoder."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of weights, configuration and affine."""
        ...

    def encode(self, pixels: Pixels) -> Moments:
        """Posterior moments of images in [-1, 1]."""
        ...

    def sample(self, moments: Moments, noise: Latents) -> Latents:
        """Normalised latents: mean + std * noise, then the autoencoder's affine."""
        ...


@dataclass(frozen=True, kw_only=True)
class MomentBatch:
    """Batch before latents are sampled. All tensors are on the CPU."""

    moments: Moments
    """float32."""
    control: ControlBatch
    label: Int[Tensor, " batch"]


@runtime_checkable
class MomentSource(Protocol):
    """Moments of every view of every image of one split."""

    num_views: int

    def __len__(self) -> int:
        """Number of images in one epoch."""
        ...

    def fetch(self, indices: Int[Tensor, " batch"], views: Int[Tensor, " batch"]) -> MomentBatch:
        """Fetch a batch; row k is view ``views[k]`` of image ``indices[k]``.

        Raises:
            ValueError: an index or a view is out of range.
        """
        ...


class EncodedViews:
    """Moments encoded on the fly; equal to those of a float32 cache up to fp32 rounding.

    Args:
        source: the images.
        encoder: on ``device``.
        device: device of the encoder; moments are returned on the CPU.
        encode_batch: number of images encoded at once.
        size: size of every view in pixels; None = see :func:`pippin.data.views.view_control`.
    """

    def __init__(
        self,
        source: ImageSource,
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
        """Number of images in one epoch."""
        return len(self._source)

    def fetch(self, indices: Int[Tensor, " batch"], views: Int[Tensor, " batch"]) -> MomentBatch:
        """See :class:`MomentSource`."""
        return self.encode(self.images(indices, views))

    def images(self, indices: Int[Tensor, " batch"], views: Int[Tensor, " batch"]) -> ViewBatch:
        """Prepare the images: the first half of :meth:`fetch`, for workers without an encoder."""
        check_range("image index", indices, len(self))
        return make_views(self._source, indices.tolist(), views.tolist(), self._size)

    def encode(self, batch: ViewBatch) -> MomentBatch:
        """Encode the images: the second half of :meth:`fetch`, in the process with the encoder."""
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
    """Encode images to float32 moments on the CPU.

    Raises:
        ValueError: a moment is not finite.
    """
    pixels: Float[Tensor, "batch 3 height width"] = to_pixels(images.to(device))
    moments = encoder.encode(pixels)
    # contiguous, because convolutions may return the channels-last layout
    mean = moments.mean.float().cpu().contiguous()
    std = moments.std.float().cpu().contiguous()
    if not (mean.isfinite().all() and std.isfinite().all()):
        raise ValueError("the autoencoder returned moments that are not finite; check its weights")
    return Moments(mean=mean, std=std)


def check_range(what: str, values: Int[Tensor, " batch"], length: int) -> None:
    """Check that values are in range(length).

    Raises:
        ValueError: with the first value outside.
    """
    outside = values[(values < 0) | (values >= length)]
    if len(outside):
        raise ValueError(f"{what} must be in range({length}); got {int(outside[0])}")

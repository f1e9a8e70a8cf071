# SPDX-License-Identifier: Apache-2.0
"""Posterior moments of images, cached or encoded on the fly, in one shape or in buckets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pippin.control import Size
from pippin.data.source import ImageSource
from pippin.data.sources.images import ImageFolderSource
from pippin.data.views.buckets import size_name
from pippin.data.views.views import ViewBatch, make_views
from pippin.encoders.normalisation import to_pixels
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

    def sample(self, moments: Moments, noise: Latents | None) -> Latents:
        """Normalised latents: mean + std * noise, then the autoencoder's affine. Without noise,
        as from a deterministic encoder, the mean."""
        ...


@dataclass(frozen=True, kw_only=True)
class MomentBatch:
    """Batch before latents are sampled. All tensors are on the CPU."""

    moments: Moments
    """float32."""
    control: ControlBatch
    label: Int[Tensor, " batch"]
    features: Float[Tensor, "batch features rows columns"] | None = None
    """See :class:`pippin.types.Batch`; float16."""


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


def cat_batches(parts: Sequence[MomentBatch]) -> MomentBatch:
    """Concatenate batches of one source and encoder, without features."""
    names = parts[0].control
    return MomentBatch(
        moments=cat_moments([part.moments for part in parts]),
        control={name: torch.cat([part.control[name] for part in parts]) for name in names},
        label=torch.cat([part.label for part in parts]),
    )


class EncodedViews:
    """Moments encoded on the fly; equal to those of a float32 cache up to fp32 rounding.

    Args:
        source: the images.
        encoder: on ``device``.
        device: device of the encoder; moments are returned on the CPU.
        encode_batch: number of images encoded at once.
        size: size of every view in pixels; None = see
            :func:`pippin.data.views.views.view_control`.
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
        self.encode_batch = encode_batch
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
            for images in batch.images.split(self.encode_batch)
        ]
        return MomentBatch(moments=cat_moments(parts), control=batch.control, label=batch.label)


def cat_moments(parts: Sequence[Moments]) -> Moments:
    """Concatenate batches of one encoder."""
    deviations = [part.std for part in parts if part.std is not None]
    return Moments(
        mean=torch.cat([part.mean for part in parts]),
        std=torch.cat(deviations) if deviations else None,
    )


SMALLEST_BATCH = 16
"""Rows that a CPU encodes at least. PyTorch chooses the algorithm of a convolution of fewer rows
by the number of threads, so that latents would depend on the number of processes by rounding."""


def enough_rows(images: Tensor) -> Tensor:
    """The images, on a CPU with copies of the last one up to :data:`SMALLEST_BATCH` rows."""
    missing = SMALLEST_BATCH - len(images) if images.device.type == "cpu" else 0
    return torch.cat([images, *[images[-1:]] * missing]) if missing > 0 else images


@torch.no_grad()
def encode_images(encoder: Encoder, images: Images, device: torch.device | str) -> Moments:
    """Encode images to float32 moments on the CPU; on a CPU those of an image are the same bits in
    any batch and with any number of threads.

    Raises:
        ValueError: a moment is not finite.
    """
    pixels: Float[Tensor, "batch 3 height width"] = to_pixels(images.to(device))
    moments = encoder.encode(enough_rows(pixels))
    # contiguous, because convolutions may return the channels-last layout
    mean, std = (
        None if values is None else values[: len(images)].float().cpu().contiguous()
        for values in (moments.mean, moments.std)
    )
    if not all(values is None or values.isfinite().all() for values in (mean, std)):
        raise ValueError("the autoencoder returned moments that are not finite; check its weights")
    assert mean is not None
    return Moments(mean=mean, std=std)


def check_range(what: str, values: Int[Tensor, " batch"], length: int) -> None:
    """Check that values are in range(length).

    Raises:
        ValueError: with the first value outside.
    """
    outside = values[(values < 0) | (values >= length)]
    if len(outside):
        raise ValueError(f"{what} must be in range({length}); got {int(outside[0])}")


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """The images that are trained on at one size."""

    size: Size
    images: Int[Tensor, " images"]
    """Indices into the whole source, ascending; at least one."""
    moments: MomentSource
    """Moments of these images, in the same order."""


class BucketedMoments:
    """The moments of all buckets; see :class:`pippin.data.moments.MomentSource`.

    Indices refer to the whole source. All rows of one fetch come from one bucket.

    Args:
        buckets: a partition of the source's images.
    """

    def __init__(self, buckets: Sequence[Bucket]) -> None:
        self.buckets = tuple(buckets)
        self.num_views = self.buckets[0].moments.num_views
        total = sum(len(bucket.images) for bucket in self.buckets)
        self._bucket, self._place = torch.empty(2, total, dtype=torch.long)
        for number, bucket in enumerate(self.buckets):
            self._bucket[bucket.images] = number
            self._place[bucket.images] = torch.arange(len(bucket.images))

    def __len__(self) -> int:
        """Number of images in one epoch."""
        return len(self._bucket)

    def fetch(self, indices: Int[Tensor, " batch"], views: Int[Tensor, " batch"]) -> MomentBatch:
        """See :class:`pippin.data.moments.MomentSource`.

        Raises:
            ValueError: also if the images belong to several buckets.
        """
        source, places = self.locate(indices)
        return source.fetch(places, views)

    def locate(self, indices: Int[Tensor, " batch"]) -> tuple[MomentSource, Int[Tensor, " batch"]]:
        """Moments of the bucket that holds the images, and their indices in it.

        Raises:
            ValueError: as :meth:`fetch`.
        """
        check_range("image index", indices, len(self))
        numbers = self._bucket[indices].unique().tolist()
        if len(numbers) != 1:
            sizes = ", ".join(size_name(self.buckets[number].size) for number in numbers)
            raise ValueError(f"the rows of a batch must be of one bucket; got images of {sizes}")
        return self.buckets[numbers[0]].moments, self._place[indices]


def bucket_image_indices(source: ImageSource) -> dict[Size, list[int]]:
    """Image indices of each bucket size, by increasing ratio; empty buckets included."""
    buckets: dict[Size, list[int]] = {size: [] for size in source.config.view_sizes}
    for index in range(len(source)):
        buckets[source.config.view_size(source.original_size(index))].append(index)
    return buckets


def bucketed_moments(
    source: ImageFolderSource, moments_of: Callable[[ImageSource], MomentSource]
) -> BucketedMoments:
    """Combine the moments of all buckets into one source; empty buckets are skipped.

    Args:
        source: images with ``data.aspect_ratios``.
        moments_of: builds or opens the moments of a subset.
    """
    return BucketedMoments(
        [
            Bucket(
                size=size,
                images=torch.tensor(indices),
                moments=moments_of(source.subset(indices)),
            )
            for size, indices in bucket_image_indices(source).items()
            if indices
        ]
    )

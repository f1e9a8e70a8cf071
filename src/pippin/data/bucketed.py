# SPDX-License-Identifier: Apache-2.0
"""Moments of images in aspect-ratio buckets, as one source."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from pippin.control import Size
from pippin.data.buckets import size_name
from pippin.data.images import ImageFolderSource
from pippin.data.moments import MomentBatch, MomentSource, check_range
from pippin.data.source import ImageSource


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

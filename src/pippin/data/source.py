# SPDX-License-Identifier: Apache-2.0
"""Interface of sources of labelled images, and their deterministic splits."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from pippin.control import Control, Size
from pippin.data.config import DataConfig
from pippin.data.folder.listing import SkippedImage
from pippin.data.sources.openmoji_table import Split

T = TypeVar("T")


def hash_fraction(text: str) -> float:
    """First 8 bytes of the SHA-256 of a text as a fraction in [0, 1]."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def held_out_keys(keys: Iterable[str], share: float) -> set[str]:
    """Held-out keys: those with a hash fraction below the share.

    New keys do not move other keys. If one split would be empty, the key with the smallest (or
    largest) fraction changes its split, so two keys suffice for both splits.
    """
    distinct = list(dict.fromkeys(keys))
    return {distinct[place] for place in held_out_places(distinct, share)}


def held_out_places(keys: Iterable[str], share: float) -> list[int]:
    """Places of the held-out keys; see :func:`held_out_keys`. No key is stored.

    Args:
        keys: distinct keys.
        share: expected share of held-out keys.
    """
    fractions = np.fromiter((hash_fraction(f"images/{key}") for key in keys), dtype=np.float64)
    ranked = np.argsort(fractions, kind="stable")
    count = int((fractions < share).sum())
    places: list[int] = ranked[: min(max(count, 1), len(ranked) - 1)].tolist()
    return places


def fixed_subset(items: Sequence[T], count: int | None, key: Callable[[T], str]) -> list[T]:
    """The ``count`` items with the smallest hashes, in their original order: a mixture of
    classes."""
    if count is None:
        return list(items)
    ranked = sorted(items, key=lambda item: hashlib.sha256(key(item).encode()).digest())
    chosen = {key(item) for item in ranked[:count]}
    return [item for item in items if key(item) in chosen]


@runtime_checkable
class ImageSource(Protocol):
    """Images of one split. Indices are in ``range(len(source))``.

    Random draws are keyed by ``key(index)``, never by the index, so draws of an image do not
    depend on the selection of other images.
    """

    split: Split
    class_names: tuple[str, ...]
    layout: str | None
    """Layout of a folder, which defines the classes; None for embedded images."""
    decoder: str
    """Library and version that decode the files."""

    @property
    def config(self) -> DataConfig:
        """Configuration of the source."""
        ...

    @property
    def skipped(self) -> Sequence[SkippedImage]:
        """Skipped images of both splits."""
        ...

    @property
    def probe_side(self) -> int:
        """Side in pixels that at least half of the images reach."""
        ...

    def __len__(self) -> int:
        """Number of images in one epoch."""
        ...

    def key(self, index: int) -> str:
        """Stable key of the image in random streams."""
        ...

    def name(self, index: int) -> str:
        """Main caption."""
        ...

    def captions(self, index: int) -> dict[str, str]:
        """Captions by kind; ``name`` always exists."""
        ...

    def label(self, index: int) -> int:
        """Class id, in range(len(class_names))."""
        ...

    def original_size(self, index: int) -> Size:
        """Size of the source image that views are cropped from."""
        ...

    def image(
        self, index: int, view: int | None = None, original_size: Size | None = None
    ) -> UInt8[Tensor, "3 height width"]:
        """Source image that a view is cropped from; see the class of the source."""
        ...

    def can_show(self, index: int, original_size: Size) -> bool:
        """True if :meth:`image` can return the image at this size."""
        ...

    def clean_control(self, index: int) -> Control:
        """Deterministic control without augmentation: a square, unflipped."""
        ...

    def source_hash(self) -> str:
        """Hash of all images and labels of the source, 16 hexadecimal digits."""
        ...

    def content_hash(self) -> str:
        """Hash with class names instead of ids, and without the decoder's version."""
        ...

# SPDX-License-Identifier: Apache-2.0
"""What every source of labelled pictures offers to views and caches."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor

from pippin.control import Control, Size
from pippin.data.config import DataConfig
from pippin.data.listing import LostFile
from pippin.data.table import Split


@runtime_checkable
class PictureSource(Protocol):
    """The pictures of one split. An index is a place in ``range(len(source))``.

    Random draws are keyed by ``key(index)``, never by the index, so that another selection of
    pictures does not change the draws of those that stay.
    """

    split: Split
    class_names: tuple[str, ...]
    layout: str | None
    """How a folder says which image has which class; None for embedded images."""
    decoder: str
    """Library and version that turns the files into pixels."""

    @property
    def config(self) -> DataConfig:
        """What the source was built from."""
        ...

    @property
    def lost(self) -> Sequence[LostFile]:
        """Pictures that cannot be used, of either split."""
        ...

    @property
    def probe_side(self) -> int:
        """A side in pixels that at least half of the pictures can be shown at, whole."""
        ...

    def __len__(self) -> int:
        """How many pictures one epoch has."""
        ...

    def key(self, index: int) -> str:
        """The picture's stable name in random streams."""
        ...

    def name(self, index: int) -> str:
        """What the picture shows, in words."""
        ...

    def captions(self, index: int) -> dict[str, str]:
        """What the picture shows, in words, by the kind of caption; each has its ``name``."""
        ...

    def label(self, index: int) -> int:
        """The class id, in range(len(class_names))."""
        ...

    def original_size(self, index: int) -> Size:
        """Of the source image that the picture's views are cut from."""
        ...

    def image(
        self, index: int, view: int | None = None, original_size: Size | None = None
    ) -> UInt8[Tensor, "3 height width"]:
        """The source image that a view is cut from; see the class of the source."""
        ...

    def can_show(self, index: int, original_size: Size) -> bool:
        """Whether :meth:`image` knows what the picture looks like at this size."""
        ...

    def clean_control(self, index: int) -> Control:
        """How the picture is prepared where nothing is left to chance: a square, unflipped."""
        ...

    def source_hash(self) -> str:
        """16 hexadecimal digits that change with any picture or label of the source."""
        ...

    def content_hash(self) -> str:
        """The same, over class names in the place of ids, and without the decoder's version."""
        ...

# SPDX-License-Identifier: Apache-2.0
"""What every source of labelled pictures offers to views and caches."""

from typing import Protocol, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor

from pippin.data.config import DataConfig
from pippin.data.table import Split
from pippin.types import Size


@runtime_checkable
class PictureSource(Protocol):
    """The pictures of one split. An index is a place in ``range(len(source))``.

    Random draws are keyed by ``key(index)``, never by the index, so that another selection of
    pictures does not change the draws of those that stay.
    """

    config: DataConfig
    split: Split
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        """How many pictures one epoch has."""
        ...

    def key(self, index: int) -> str:
        """The picture's stable name in random streams."""
        ...

    def name(self, index: int) -> str:
        """What the picture shows, in words."""
        ...

    def label(self, index: int) -> int:
        """The class id, in range(len(class_names))."""
        ...

    def image(
        self, index: int, view: int | None = None, original_size: Size | None = None
    ) -> UInt8[Tensor, "3 height width"]:
        """The source image that a view is cut from; see the class of the source."""
        ...

    def source_hash(self) -> str:
        """16 hexadecimal digits that change with any picture or label of the source."""
        ...

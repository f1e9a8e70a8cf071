# SPDX-License-Identifier: Apache-2.0
"""The embedded data set: OpenMoji's pictures with their groups as classes."""

import hashlib
from collections import defaultdict
from functools import cached_property

from jaxtyping import UInt8
from torch import Tensor

from pippin.data.config import OpenMojiConfig
from pippin.data.crop import whole_image
from pippin.data.rasterise import rasterise, renderer, svg_bytes
from pippin.data.size import class_scores, original_size
from pippin.data.split import fixed_subset
from pippin.data.table import CLASSES, Picture, Split, pictures_of, read_table
from pippin.rng import normal, uniform
from pippin.types import Control, Size

CLEAN_SIZE = Size(256, 256)
"""The source size of clean views, in pixels."""


class OpenMojiSource:
    """The OpenMoji pictures of one split; see :class:`pippin.data.source.PictureSource`.

    What one index is depends on ``config.tones``: a base picture, of which each view shows one
    skin tone (``one-per-view``) or the untoned drawing (``base-only``), or one drawing (``all``).

    Args:
        config: tones, sizes, crops and seed.
        split: ``train`` or ``held-out``.
    """

    def __init__(self, config: OpenMojiConfig, split: Split) -> None:
        self.config = config
        self.split: Split = split
        self.class_names: tuple[str, ...] = CLASSES
        self.lost = ()
        self.probe_side = CLEAN_SIZE.height
        pictures = pictures_of(split)
        every_tone = config.tones == "all"
        items = [p for p in pictures if every_tone or not p.base]
        self._items = fixed_subset(items, config.max_pictures, lambda picture: picture.hexcode)
        self._drawings: dict[str, list[str]] = defaultdict(list)
        for picture in pictures:
            self._drawings[picture.base or picture.hexcode].append(picture.hexcode)
        self._scores = class_scores(_pictures_per_class())

    def __len__(self) -> int:
        """How many pictures one epoch has."""
        return len(self._items)

    def picture(self, index: int) -> Picture:
        """The table's row of one picture: name, tags, family, ..."""
        return self._items[index]

    def key(self, index: int) -> str:
        """The hexcode."""
        return self._items[index].hexcode

    def name(self, index: int) -> str:
        """OpenMoji's annotation, such as "cat face"."""
        return self._items[index].name

    def captions(self, index: int) -> dict[str, str]:
        """``name``, and ``tags``: the name followed by OpenMoji's tags."""
        picture = self._items[index]
        return {
            "name": picture.name,
            "tags": ", ".join(filter(None, [picture.name, picture.tags])),
        }

    def label(self, index: int) -> int:
        """The class id, a place in ``class_names``."""
        return CLASSES.index(self._items[index].group)

    def original_size(self, index: int) -> Size:
        """The size that the law of sizes gives this picture, the same in every view."""
        own = float(normal((1,), "size", self.config.seed, self.key(index)))
        return original_size(self.config.size_law, self._scores[self.label(index)], own)

    def drawing(self, index: int, view: int | None = None) -> str:
        """The hexcode of the drawing that a view shows; None = the picture itself, untoned."""
        hexcode = self.key(index)
        if view is None or self.config.tones != "one-per-view":
            return hexcode
        drawings = self._drawings[hexcode]
        place = float(uniform((1,), "view", self.config.seed, hexcode, view, "tone"))
        return drawings[int(place * len(drawings))]

    def image(
        self, index: int, view: int | None = None, original_size: Size | None = None
    ) -> UInt8[Tensor, "3 height width"]:
        """The picture drawn on white.

        Args:
            index: which picture.
            view: which view's skin tone; None = untoned.
            original_size: (height, width) to draw at; None = the size the law gives.

        Raises:
            ValueError: the size is not square.
        """
        height, width = original_size or self.original_size(index)
        if height != width:
            raise ValueError(f"OpenMoji pictures are square; asked for {height} x {width} pixels")
        return rasterise(self.drawing(index, view), height)

    def can_show(self, index: int, original_size: Size) -> bool:
        """Any square size: the pictures are drawings."""
        return original_size.height == original_size.width

    def clean_control(self, index: int) -> Control:
        """The whole picture at 256 pixels, unflipped."""
        return whole_image(CLEAN_SIZE)

    def source_hash(self) -> str:
        """Over the drawings, labels and keys of this split, and the renderer's version."""
        return self._hash

    @cached_property
    def _hash(self) -> str:
        digest = hashlib.sha256(renderer().encode())
        for index, picture in enumerate(self._items):
            digest.update(f"\n{picture.hexcode} {self.label(index)}".encode())
            drawings = [picture.hexcode] if picture.base else self._drawings[picture.hexcode]
            for hexcode in drawings:
                digest.update(hashlib.sha256(svg_bytes(hexcode)).digest())
        return digest.hexdigest()[:16]


def _pictures_per_class() -> list[int]:
    """Untoned pictures of each class in both splits: the weights of the class scores."""
    groups = [picture.group for picture in read_table() if not picture.base]
    return [groups.count(name) for name in CLASSES]

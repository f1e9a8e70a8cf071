# SPDX-License-Identifier: Apache-2.0
"""The embedded data set: OpenMoji's pictures with their groups as classes."""

import hashlib
from collections import defaultdict
from difflib import get_close_matches
from functools import cached_property
from typing import NamedTuple

from jaxtyping import UInt8
from torch import Tensor

from pippin.config import ConfigError
from pippin.control import Control, Size
from pippin.data.config import Art, OpenMojiConfig
from pippin.data.crop import whole_image
from pippin.data.rasterise import has_drawing, rasterise, renderer, svg_bytes
from pippin.data.size import class_scores, original_size
from pippin.data.split import fixed_subset
from pippin.data.table import CLASSES, Picture, Split, pictures_of, read_table
from pippin.rng import normal, uniform

CLEAN_SIZE = Size(256, 256)
"""The source size of clean views, in pixels."""


class Item(NamedTuple):
    """One picture in one art."""

    picture: Picture
    art: Art

    @property
    def key(self) -> str:
        """The hexcode; with the art where that is not OpenMoji."""
        hexcode = self.picture.hexcode
        return hexcode if self.art == "openmoji" else f"{hexcode}/{self.art}"

    @property
    def styled(self) -> str:
        """The name and the art."""
        return f"{self.picture.name}, {self.art}"


class OpenMojiSource:
    """The OpenMoji pictures of one split; see :class:`pippin.data.source.PictureSource`.

    What one index is depends on ``config.tones``: a base picture, of which each view shows one
    skin tone (``one-per-view``) or the untoned drawing (``base-only``), or one drawing (``all``).
    With more than one art, a picture is an index in each that has it.

    Args:
        config: art, tones, sizes, crops and seed.
        split: ``train`` or ``held-out``.

    Raises:
        ConfigError: an art that is not installed, or ``left_out`` names what no picture is.
    """

    def __init__(self, config: OpenMojiConfig, split: Split) -> None:
        self.config = config
        self.split: Split = split
        self.class_names: tuple[str, ...] = CLASSES
        self.layout: str | None = None
        self.decoder = renderer()
        self.lost = ()
        self.probe_side = CLEAN_SIZE.height
        pictures = pictures_of(split)
        every_tone = config.tones == "all"
        every = [
            Item(p, art) for art in config.art for p in pictures if has_drawing(p.hexcode, art)
        ]
        items = [item for item in every if every_tone or not item.picture.base]
        if config.left_out and split == "train":
            items = _without(items, config.left_out)
        self._items = fixed_subset(items, config.max_pictures, lambda item: item.key)
        self._drawings: dict[Item, list[str]] = defaultdict(list)
        untoned = {item.picture.hexcode: item.picture for item in every if not item.picture.base}
        for picture, art in every:
            base = untoned.get(picture.base, picture)
            self._drawings[Item(base, art)].append(picture.hexcode)
        self._scores = class_scores(_pictures_per_class())

    def __len__(self) -> int:
        """How many pictures one epoch has."""
        return len(self._items)

    def picture(self, index: int) -> Picture:
        """The table's row of one picture: name, tags, family, ..."""
        return self._items[index].picture

    def key(self, index: int) -> str:
        """The hexcode; with the art where that is not OpenMoji."""
        return self._items[index].key

    def name(self, index: int) -> str:
        """OpenMoji's annotation, such as "cat face"."""
        return self.picture(index).name

    def captions(self, index: int) -> dict[str, str]:
        """``name``; ``style``: the name and the art; ``tags``: the name and OpenMoji's tags."""
        item = self._items[index]
        name, tags = item.picture.name, item.picture.tags
        return {
            "name": name,
            "style": item.styled,
            "tags": ", ".join(filter(None, [name, tags])),
        }

    def label(self, index: int) -> int:
        """The class id, a place in ``class_names``."""
        return CLASSES.index(self.picture(index).group)

    def original_size(self, index: int) -> Size:
        """The size that the law of sizes gives this picture, the same in every view."""
        own = float(normal((1,), "size", self.config.seed, self.key(index)))
        return original_size(self.config.size_law, self._scores[self.label(index)], own)

    def drawing(self, index: int, view: int | None = None) -> str:
        """The hexcode of the drawing that a view shows; None = the picture itself, untoned."""
        if view is None or self.config.tones != "one-per-view":
            return self.picture(index).hexcode
        drawings = self._drawings[self._items[index]]
        place = float(uniform((1,), "view", self.config.seed, self.key(index), view, "tone"))
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
        return rasterise(self.drawing(index, view), height, self._items[index].art)

    def can_show(self, index: int, original_size: Size) -> bool:
        """Any square size: the pictures are drawings."""
        return original_size.height == original_size.width

    def clean_control(self, index: int) -> Control:
        """The whole picture at 256 pixels, unflipped."""
        return whole_image(CLEAN_SIZE)

    def source_hash(self) -> str:
        """Over the drawings, labels and keys of this split, and the renderer's version."""
        return self._hash

    def content_hash(self) -> str:
        """The same without the renderer's version."""
        return self._digest("")

    @cached_property
    def _hash(self) -> str:
        return self._digest(self.decoder)

    def _digest(self, decoder: str) -> str:
        digest = hashlib.sha256(decoder.encode())
        for index, item in enumerate(self._items):
            digest.update(f"\n{item.key} {self.label(index)}".encode())
            picture = item.picture
            for hexcode in [picture.hexcode] if picture.base else self._drawings[item]:
                digest.update(hashlib.sha256(svg_bytes(hexcode, item.art)).digest())
        return digest.hexdigest()[:16]


def _without(items: list[Item], left_out: tuple[str, ...]) -> list[Item]:
    known = {caption for item in items for caption in (item.picture.name, item.styled)}
    for caption in left_out:
        if caption not in known:
            near = get_close_matches(caption, known, n=3)
            raise ConfigError(
                f"data.left_out: no picture to train on is called {caption!r}"
                + (f"; the nearest: {', '.join(map(repr, near))}" if near else "")
            )
    return [i for i in items if not {i.picture.name, i.styled} & set(left_out)]


def _pictures_per_class() -> list[int]:
    """Untoned pictures of each class in both splits: the weights of the class scores."""
    groups = [picture.group for picture in read_table() if not picture.base]
    return [groups.count(name) for name in CLASSES]

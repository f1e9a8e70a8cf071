# SPDX-License-Identifier: Apache-2.0
"""Embedded data set: OpenMoji images with their groups as classes."""

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
from pippin.data.source import fixed_subset
from pippin.data.sources.openmoji_table import CLASSES, Emoji, Split, emojis_of_split, read_table
from pippin.data.sources.rasterise import has_svg, rasterise, renderer, svg_bytes
from pippin.data.views.crop import whole_image
from pippin.data.views.size import class_scores, original_size
from pippin.rng import normal, uniform

CLEAN_SIZE = Size(256, 256)
"""Source size of clean views, in pixels."""


class Item(NamedTuple):
    """One emoji in one SVG set."""

    emoji: Emoji
    art: Art

    @property
    def key(self) -> str:
        """Hexcode, with the art unless it is OpenMoji."""
        hexcode = self.emoji.hexcode
        return hexcode if self.art == "openmoji" else f"{hexcode}/{self.art}"

    @property
    def name_with_art(self) -> str:
        """Name and art, as a caption."""
        return f"{self.emoji.name}, {self.art}"


class OpenMojiSource:
    """OpenMoji images of one split; see :class:`pippin.data.source.ImageSource`.

    The meaning of an index depends on ``config.tones``: a base emoji whose views have random skin
    tones (``one-per-view``), an untoned drawing (``base-only``), or any drawing (``all``). With
    several arts, each drawing of an emoji has its own index.

    Args:
        config: art, tones, sizes, crops and seed.
        split: ``train`` or ``held-out``.

    Raises:
        ConfigError: an art is not installed, or ``left_out`` names no image.
    """

    def __init__(self, config: OpenMojiConfig, split: Split) -> None:
        self.config = config
        self.split: Split = split
        self.class_names: tuple[str, ...] = CLASSES
        self.layout: str | None = None
        self.decoder = renderer()
        self.skipped = ()
        self.probe_side = CLEAN_SIZE.height
        emojis = emojis_of_split(split)
        all_tones = config.tones == "all"
        available = [Item(p, art) for art in config.art for p in emojis if has_svg(p.hexcode, art)]
        items = [item for item in available if all_tones or not item.emoji.base]
        if config.left_out and split == "train":
            items = _without(items, config.left_out)
        self._items = fixed_subset(items, config.max_pictures, lambda item: item.key)
        self._variants: dict[Item, list[str]] = defaultdict(list)
        untoned = {item.emoji.hexcode: item.emoji for item in available if not item.emoji.base}
        for emoji, art in available:
            base = untoned.get(emoji.base, emoji)
            self._variants[Item(base, art)].append(emoji.hexcode)
        self._scores = class_scores(_images_per_class())

    def __len__(self) -> int:
        """Number of images in one epoch."""
        return len(self._items)

    def emoji(self, index: int) -> Emoji:
        """Table row of one emoji: name, tags, family, ..."""
        return self._items[index].emoji

    def key(self, index: int) -> str:
        """Hexcode, with the art unless it is OpenMoji."""
        return self._items[index].key

    def name(self, index: int) -> str:
        """OpenMoji annotation, such as "cat face"."""
        return self.emoji(index).name

    def captions(self, index: int) -> dict[str, str]:
        """Captions ``name``; ``style``: name and art; ``tags``: name and OpenMoji's tags."""
        item = self._items[index]
        name, tags = item.emoji.name, item.emoji.tags
        return {
            "name": name,
            "style": item.name_with_art,
            "tags": ", ".join(filter(None, [name, tags])),
        }

    def label(self, index: int) -> int:
        """Class id, an index into ``class_names``."""
        return CLASSES.index(self.emoji(index).group)

    def original_size(self, index: int) -> Size:
        """Random size of this image from the size distribution, the same for every view."""
        own = float(normal((1,), "size", self.config.seed, self.key(index)))
        return original_size(self.config.size_law, self._scores[self.label(index)], own)

    def drawing(self, index: int, view: int | None = None) -> str:
        """Hexcode of the drawing of a view; None = the untoned one."""
        if view is None or self.config.tones != "one-per-view":
            return self.emoji(index).hexcode
        variants = self._variants[self._items[index]]
        share = float(uniform((1,), "view", self.config.seed, self.key(index), view, "tone"))
        return variants[int(share * len(variants))]

    def image(
        self, index: int, view: int | None = None, original_size: Size | None = None
    ) -> UInt8[Tensor, "3 height width"]:
        """Rasterise the image on white.

        Args:
            index: index of the image.
            view: view that determines the skin tone; None = untoned.
            original_size: (height, width) in pixels; None = the image's random size.

        Raises:
            ValueError: the size is not square.
        """
        height, width = original_size or self.original_size(index)
        if height != width:
            raise ValueError(
                f"OpenMoji images are square; got a size of {height} x {width} pixels"
            )
        return rasterise(self.drawing(index, view), height, self._items[index].art)

    def can_show(self, index: int, original_size: Size) -> bool:
        """True for any square size, because the images are SVG drawings."""
        return original_size.height == original_size.width

    def clean_control(self, index: int) -> Control:
        """Control of the whole image at 256 pixels, unflipped."""
        return whole_image(CLEAN_SIZE)

    def source_hash(self) -> str:
        """Hash of drawings, labels and keys of this split, and the renderer's version."""
        return self._hash

    def content_hash(self) -> str:
        """Hash without the renderer's version."""
        return self._digest("")

    @cached_property
    def _hash(self) -> str:
        return self._digest(self.decoder)

    def _digest(self, decoder: str) -> str:
        digest = hashlib.sha256(decoder.encode())
        for index, item in enumerate(self._items):
            digest.update(f"\n{item.key} {self.label(index)}".encode())
            emoji = item.emoji
            for hexcode in [emoji.hexcode] if emoji.base else self._variants[item]:
                digest.update(hashlib.sha256(svg_bytes(hexcode, item.art)).digest())
        return digest.hexdigest()[:16]


def _without(items: list[Item], left_out: tuple[str, ...]) -> list[Item]:
    known_captions = {
        caption for item in items for caption in (item.emoji.name, item.name_with_art)
    }
    for caption in left_out:
        if caption not in known_captions:
            matches = get_close_matches(caption, known_captions, n=3)
            raise ConfigError(
                f"data.left_out: no training image is called {caption!r}"
                + (f"; the nearest: {', '.join(map(repr, matches))}" if matches else "")
            )
    return [i for i in items if not {i.emoji.name, i.name_with_art} & set(left_out)]


def _images_per_class() -> list[int]:
    """Number of untoned images of each class in both splits: the weights of the class scores."""
    groups = [emoji.group for emoji in read_table() if not emoji.base]
    return [groups.count(name) for name in CLASSES]

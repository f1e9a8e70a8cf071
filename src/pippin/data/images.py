# SPDX-License-Identifier: Apache-2.0
"""Own pictures as a source: files of any size and shape, with classes."""

import hashlib
import json
from collections.abc import Sequence
from copy import copy
from functools import cached_property
from statistics import median_low

import PIL
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from pippin.control import Control, Corner, Size
from pippin.data.config import ImagesConfig
from pippin.data.metadata_columns import MAIN
from pippin.data.scan import OwnPicture, Progress, check_losses, scan
from pippin.data.split import fixed_subset, held_out
from pippin.data.table import Split
from pippin.image_files import read_image


class ImagesSource:
    """The own pictures of one split; see :class:`pippin.data.source.PictureSource`.

    Files with the same bytes are one group, which has the name of its first file and lies in one
    split as a whole. A group is held out by the hash of its name.

    Args:
        config: folder, split, crops and seed.
        split: ``train`` or ``held-out``.
        progress: told of every file while they are looked into.

    Raises:
        SourceRefusedError: too many files are lost, or too few are left.
        ValueError, OSError: no such folder, or a metadata file that cannot be used.
    """

    def __init__(
        self, config: ImagesConfig, split: Split, progress: Progress | None = None
    ) -> None:
        self.config = config
        self.split: Split = split
        found = scan(config, progress=progress)
        check_losses(found, config)
        self._kinds = tuple(dict.fromkeys((MAIN, *found.caption_kinds)))
        self.class_names: tuple[str, ...] = found.class_names
        self.layout: str | None = found.layout
        self.decoder = f"Pillow {PIL.__version__}"
        self.lost = found.lost
        self.facts = found.facts
        self.caption_kinds = found.caption_kinds
        self.earlier_class_names = found.earlier_class_names
        self._splits = split_pictures(found.pictures, config.held_out_share)
        self._items = self._items_of(split)

    def __len__(self) -> int:
        """How many pictures one epoch has."""
        return len(self._items)

    def part(self, indices: Sequence[int]) -> "ImagesSource":
        """Some of the pictures as a source; their keys, and so their draws, are the same."""
        return self._of([self._items[index] for index in indices])

    def of_split(self, split: Split) -> "ImagesSource":
        """A split of the same scan: what was found in the folder is not looked for again."""
        source = self._of(self._items_of(split))
        source.split = split
        return source

    def _items_of(self, split: Split) -> list[OwnPicture]:
        images = self._splits[split]
        return fixed_subset(images, self.config.max_pictures, lambda picture: picture.name)

    def _of(self, items: list[OwnPicture]) -> "ImagesSource":
        chosen = copy(self)
        for known in ("_hash", "probe_side"):  # of all pictures
            vars(chosen).pop(known, None)
        chosen._items = items
        return chosen

    def picture(self, index: int) -> OwnPicture:
        """File, class, caption and size of one picture."""
        return self._items[index]

    def key(self, index: int) -> str:
        """The file's name below the folder."""
        return self._items[index].name

    def name(self, index: int) -> str:
        """The main caption; where there is none, the name of the class."""
        return self._items[index].captions.get(MAIN) or self.class_names[self.label(index)]

    def captions(self, index: int) -> dict[str, str]:
        """``name`` and one for each further column of captions; the name where a cell is empty."""
        own = self._items[index].captions
        return {kind: own.get(kind) or self.name(index) for kind in self._kinds}

    def label(self, index: int) -> int:
        """The class id, a place in ``class_names``."""
        return self._items[index].label

    def original_size(self, index: int) -> Size:
        """Of the file, in pixels."""
        return self._items[index].size

    def image(
        self, index: int, view: int | None = None, original_size: Size | None = None
    ) -> UInt8[Tensor, "3 height width"]:
        """The file's pixels, or the same picture as a smaller file would hold it.

        Another size than the file's own is made from the largest centred region that has its
        shape, shrunk (bicubic, antialiased). Nothing is ever enlarged.

        Args:
            index: which picture.
            view: has no effect; all views show the same file.
            original_size: (height, width) in pixels; None = the file's own.

        Raises:
            ValueError: the file has too few pixels for the size, or can no longer be read.
        """
        pixels = read_image(self._items[index].path)
        size = Size(*pixels.shape[1:])
        if original_size is None or original_size == size:
            return pixels
        if not _reaches(size, original_size):
            raise ValueError(
                f"{self.key(index)} has {size.height} x {size.width} pixels: what it would be at "
                f"{original_size.height} x {original_size.width} is not known"
            )
        return _shrunk(pixels, original_size)

    def can_show(self, index: int, original_size: Size) -> bool:
        """Whether the file has enough pixels for a size."""
        return _reaches(self._items[index].size, original_size)

    def clean_control(self, index: int) -> Control:
        """The centred square of the file's shorter side, unflipped."""
        size = self._items[index].size
        side = min(size)
        corner = Corner((size.height - side) // 2, (size.width - side) // 2)
        return Control(
            original_size=size, crop_corner=corner, crop_size=Size(side, side), flip=False
        )

    @cached_property
    def probe_side(self) -> int:
        """The median of the shorter sides: half of the pictures can be shown at it."""
        return median_low(min(picture.size) for picture in self._items)

    def source_hash(self) -> str:
        """Over names, classes and bytes of the files of this split, and Pillow's version."""
        return self._hash

    @cached_property
    def _hash(self) -> str:
        digest = hashlib.sha256(self.decoder.encode())
        for picture in self._items:
            digest.update(f"\n{picture.name}\n{picture.label} {picture.sha256}".encode())
            if "colour key" in picture.rules:  # pixels that earlier versions read otherwise
                digest.update(b" colour key")
        return digest.hexdigest()[:16]

    def content_hash(self) -> str:
        """Over names, class names and bytes of the files of this split."""
        digest = hashlib.sha256()
        for picture in self._items:
            label = self.class_names[picture.label]
            digest.update(json.dumps([picture.name, label, picture.sha256]).encode())
        return digest.hexdigest()[:16]


def split_pictures(
    pictures: tuple[OwnPicture, ...], held_out_share: float
) -> dict[Split, list[OwnPicture]]:
    """The pictures of each split, in order; files with the same bytes stay together."""
    groups: dict[str, str] = {}
    for picture in pictures:
        groups.setdefault(picture.sha256, picture.name)
    out = held_out(groups.values(), held_out_share)
    parts: dict[Split, list[OwnPicture]] = {"train": [], "held-out": []}
    for picture in pictures:
        parts["held-out" if groups[picture.sha256] in out else "train"].append(picture)
    return parts


def _reaches(size: Size, wanted: Size) -> bool:
    """Whether a picture of one size has the pixels for another."""
    return wanted.height <= size.height and wanted.width <= size.width


def _shrunk(
    pixels: UInt8[Tensor, "3 height width"], wanted: Size
) -> UInt8[Tensor, "3 wanted_height wanted_width"]:
    """The largest centred region of the wanted shape, at the wanted size."""
    height, width = pixels.shape[1:]
    scale = min(height / wanted.height, width / wanted.width)
    rows, columns = round(wanted.height * scale), round(wanted.width * scale)
    top, left = (height - rows) // 2, (width - columns) // 2
    region = pixels[:, top : top + rows, left : left + columns]
    resized = interpolate(region[None].float(), size=tuple(wanted), mode="bicubic", antialias=True)
    return resized[0].round().clamp(0, 255).to(torch.uint8)

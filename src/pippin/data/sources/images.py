# SPDX-License-Identifier: Apache-2.0
"""Source of a custom data set: image files of any size and aspect ratio, with classes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
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
from pippin.data.folder.image_table import ImageTable
from pippin.data.folder.metadata_columns import MAIN
from pippin.data.folder.scan import check_skipped_share, scan
from pippin.data.folder.scanned import ScannedImage
from pippin.data.folder.table_scan import split_table
from pippin.data.source import fixed_subset, held_out_keys
from pippin.data.sources.openmoji_table import Split
from pippin.images.files import read_image
from pippin.system.progress import ProgressCallback


class ImageFolderSource:
    """One split of a custom data set; see :class:`pippin.data.source.ImageSource`.

    Files with the same bytes form one group, named by its first file. A group belongs to one
    split, chosen by the hash of its name.

    Args:
        config: folder, split, crops and seed.
        split: ``train`` or ``held-out``.
        progress: called after every scanned file.

    Raises:
        InvalidSourceError: too many files are skipped, or too few remain.
        ValueError, OSError: no such folder, or an invalid metadata file.
    """

    def __init__(
        self, config: ImagesConfig, split: Split, progress: ProgressCallback | None = None
    ) -> None:
        self.config = config
        self.split: Split = split
        result = scan(config, progress=progress)
        check_skipped_share(result, config)
        self._kinds = tuple(dict.fromkeys((MAIN, *result.caption_kinds)))
        self.class_names: tuple[str, ...] = result.class_names
        self.layout: str | None = result.layout
        self.decoder = f"Pillow {PIL.__version__}"
        self.skipped = result.skipped
        self.facts = result.facts
        self.caption_kinds = result.caption_kinds
        self.earlier_class_names = result.earlier_class_names
        self._splits = split_images(result.images, config.held_out_share)
        self._items = self._items_of(split)

    def __len__(self) -> int:
        """Number of images in one epoch."""
        return len(self._items)

    def subset(self, indices: Sequence[int]) -> "ImageFolderSource":
        """Subset of the images as a source; keys, and therefore random draws, stay the same."""
        if self.table is not None:
            return self._of(self.table.select(indices))
        return self._of([self._items[index] for index in indices])

    @property
    def table(self) -> ImageTable | None:
        """Table of images that were encoded from shards; None for a folder of image files."""
        return self._items if isinstance(self._items, ImageTable) else None

    def with_files(self) -> "ImageFolderSource":
        """The images whose files were kept: of a folder of image files, all."""
        if self.table is None:
            return self
        return self.subset(self.table.column("has_file").nonzero()[0].tolist())

    def with_split(self, split: Split) -> "ImageFolderSource":
        """Another split of the same scan; the folder is not scanned again."""
        source = self._of(self._items_of(split))
        source.split = split
        return source

    def _items_of(self, split: Split) -> Sequence[ScannedImage]:
        images, count = self._splits[split], self.config.max_pictures
        if count is None:
            return images
        if isinstance(images, ImageTable):
            return images.select(fixed_subset(range(len(images)), count, images.name))
        return fixed_subset(images, count, lambda image: image.name)

    def _of(self, items: Sequence[ScannedImage]) -> "ImageFolderSource":
        chosen = copy(self)
        for cached in ("_hash", "probe_side"):  # values of the whole split
            vars(chosen).pop(cached, None)
        chosen._items = items
        return chosen

    def record(self, index: int) -> ScannedImage:
        """Record of one image: file, class, captions and size."""
        return self._items[index]

    def key(self, index: int) -> str:
        """File name relative to the folder."""
        return self._items[index].name

    def name(self, index: int) -> str:
        """Main caption, or the class name if there is none."""
        return self._items[index].captions.get(MAIN) or self.class_names[self.label(index)]

    def captions(self, index: int) -> dict[str, str]:
        """``name`` and one caption for each further column; empty cells use the name."""
        own = self._items[index].captions
        return {kind: own.get(kind) or self.name(index) for kind in self._kinds}

    def label(self, index: int) -> int:
        """Class id, an index into ``class_names``."""
        return self._items[index].label

    def original_size(self, index: int) -> Size:
        """Size of the file, in pixels."""
        return self._items[index].size

    def image(
        self, index: int, view: int | None = None, original_size: Size | None = None
    ) -> UInt8[Tensor, "3 height width"]:
        """Pixels of the file, or the same image at the size of a smaller file.

        Another size is made from the largest centred region with its aspect ratio, downsampled
        (bicubic, antialiased). Images are never upsampled.

        Args:
            index: index of the image.
            view: ignored; all views use the same file.
            original_size: (height, width) in pixels; None = the size of the file.

        Raises:
            ValueError: the file has too few pixels for the size, has changed its size since the
                scan, or can no longer be read.
        """
        if not self._items[index].has_file:
            raise ValueError(
                f"{self.key(index)} was encoded from a shard and its file was not kept; "
                "--shards.keep of `pippin data prepare` sets how many are"
            )
        item = self._items[index]
        pixels = read_image(item.path)
        size = Size(*pixels.shape[1:])
        if size != item.size:
            raise ValueError(
                f"{item.path} has {size.height} x {size.width} pixels, and had "
                f"{item.size.height} x {item.size.width} when its folder was scanned: the file "
                "was changed since. Restore it, or give the same command again, which scans "
                "changed files"
            )
        if original_size is None or original_size == size:
            return pixels
        if not _has_pixels_for(size, original_size):
            raise ValueError(
                f"{self.key(index)} has {size.height} x {size.width} pixels, too few for "
                f"{original_size.height} x {original_size.width}; give a smaller size"
            )
        return _downsample(pixels, original_size)

    def can_show(self, index: int, original_size: Size) -> bool:
        """True if there is a file with enough pixels for a size."""
        image = self._items[index]
        return image.has_file and _has_pixels_for(image.size, original_size)

    def clean_control(self, index: int) -> Control:
        """Control of the centred square with the file's shorter side, unflipped."""
        size = self._items[index].size
        side = min(size)
        corner = Corner((size.height - side) // 2, (size.width - side) // 2)
        return Control(
            original_size=size, crop_corner=corner, crop_size=Size(side, side), flip=False
        )

    @cached_property
    def probe_side(self) -> int:
        """Median of the shorter sides; at least half of the images can be shown at it."""
        return median_low(min(image.size) for image in self._items)

    def source_hash(self) -> str:
        """Hash of names, class ids and bytes of this split's files, and Pillow's version."""
        return self._hash

    @cached_property
    def _hash(self) -> str:
        digest = hashlib.sha256(self.decoder.encode())
        for image in self._items:
            digest.update(f"\n{image.name}\n{image.label} {image.sha256}".encode())
            if "colour key" in image.rules:  # earlier versions decoded these pixels differently
                digest.update(b" colour key")
        return digest.hexdigest()[:16]

    def content_hash(self) -> str:
        """Hash of names, class names and bytes of this split's files."""
        digest = hashlib.sha256()
        for image in self._items:
            label = self.class_names[image.label]
            digest.update(json.dumps([image.name, label, image.sha256]).encode())
        return digest.hexdigest()[:16]


def split_images(
    images: Sequence[ScannedImage], held_out_share: float
) -> Mapping[Split, Sequence[ScannedImage]]:
    """Images of each split, in order; files with the same bytes stay together."""
    if isinstance(images, ImageTable):
        return split_table(images, held_out_share)
    groups: dict[str, str] = {}
    for image in images:
        groups.setdefault(image.sha256, image.name)
    held_out = held_out_keys(groups.values(), held_out_share)
    parts: dict[Split, list[ScannedImage]] = {"train": [], "held-out": []}
    for image in images:
        parts["held-out" if groups[image.sha256] in held_out else "train"].append(image)
    return parts


def _has_pixels_for(size: Size, target: Size) -> bool:
    """True if an image of ``size`` has enough pixels for another size."""
    return target.height <= size.height and target.width <= size.width


def _downsample(
    pixels: UInt8[Tensor, "3 height width"], target: Size
) -> UInt8[Tensor, "3 wanted_height wanted_width"]:
    """Downsample the largest centred region with the target's aspect ratio."""
    height, width = pixels.shape[1:]
    scale = min(height / target.height, width / target.width)
    rows, columns = round(target.height * scale), round(target.width * scale)
    top, left = (height - rows) // 2, (width - columns) // 2
    region = pixels[:, top : top + rows, left : left + columns]
    resized = interpolate(region[None].float(), size=tuple(target), mode="bicubic", antialias=True)
    return resized[0].round().clamp(0, 255).to(torch.uint8)

# SPDX-License-Identifier: Apache-2.0
"""Sets of images to evaluate: files, samples of a run or arrays, and their sizes."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from pippin.control import Size
from pippin.evaluation.npz import npz_images
from pippin.images.folder import find_images, image_batches, image_paths, skipped_lines
from pippin.sampling.sample_folder import read_manifest
from pippin.system.text import print_above_progress
from pippin.types import Images


class SizeRecorder:
    """Records the sizes of images on their way to a network."""

    def __init__(self) -> None:
        self.sizes: set[Size] = set()

    def record(self, batches: Iterator[Images]) -> Iterator[Images]:
        """Yield the batches unchanged and record their sizes."""
        for images in batches:
            self.sizes.add(Size(*images.shape[2:]))
            yield images


def warn_size_mismatch(
    samples: Collection[Size], reference: Collection[Size], advice: str, console: Console
) -> None:
    """Warn where samples have other sizes than the images they are compared with.

    Args:
        samples, reference: all sizes of each.
        advice: how to make the sizes equal, with ``{side}`` for the side of the samples; shown
            where the samples are squares of one size.
        console: for the warning.
    """
    if set(samples) == set(reference):
        return
    height, width = min(samples)
    square = len(set(samples)) == 1 and height == width
    print_above_progress(
        console,
        f"samples are {_describe(samples)}, the reference's images "
        f"{_describe(reference)}, which changes every distance"
        + (f": {advice.format(side=height)}" if square else ""),
        label="other sizes:",
    )


def _describe(sizes: Collection[Size]) -> str:
    smallest, largest = min(sizes), max(sizes)
    if smallest == largest:
        return f"{smallest.height} x {smallest.width} pixels"
    ends = " to ".join(f"{size.height} x {size.width}" for size in (smallest, largest))
    return f"of {len(set(sizes))} sizes, {ends} pixels"


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images and their metadata."""

    batches: Callable[[int], Iterator[Images]]
    """Function of a batch size; each call reads the images again."""
    protocol: dict[str, Any] = field(default_factory=dict)
    """Protocol of the samples, where `pippin sample` made them."""
    captions: list[str] | None = None
    """One per image, where each image has one."""
    skipped: tuple[str, ...] = ()
    """Skipped files of the folder, one line per reason."""


def open_images(path: Path) -> ImageSet:
    """Open a folder of image files, or a ``.npz`` with images in ``arr_0``.

    Where the folder has a manifest of ``pippin sample``, exactly its files are used.

    Raises:
        ValueError: a study's folder, no images, a damaged manifest, or a manifest of missing
            samples.
    """
    if path.suffix == ".npz":
        return ImageSet(batches=lambda size: npz_images(path, size))
    if (path / "study.json").exists():
        raise ValueError(
            f"{path} is the folder of a study, not of images: `pippin report {path}` shows its "
            f"measures; `pippin evaluate {path}/runs/ARM-seedS` measures one of its runs"
        )
    manifest = read_manifest(path)
    if manifest is None:
        files = image_paths(path)
        return ImageSet(batches=lambda size: image_batches(files, size), skipped=_skipped(path))
    missing = [name for name in manifest.files if not (path / name).is_file()]
    if missing or not manifest.complete:
        raise ValueError(
            f"{path} is not complete: {len(missing)} of {len(manifest.files)} images of its "
            "manifest are missing; the same `pippin sample` command finishes it"
        )
    captions = [row["prompt"] for row in manifest.images if "prompt" in row]
    files = [path / name for name in manifest.files]
    return ImageSet(
        batches=lambda size: image_batches(files, size),
        protocol=manifest.protocol,
        captions=captions if len(captions) == len(manifest.images) else None,
    )


def log_skipped_files(images: ImageSet, path: Path) -> None:
    """Log the skipped files of a folder."""
    for line in images.skipped:
        print_above_progress(Console(stderr=True), line, label=f"skipped in {path!s}:")


def _skipped(path: Path) -> tuple[str, ...]:
    listing = find_images(path)
    counts = Counter(reason for _, reason, _ in listing.problems)
    others = (f"{count} image files: {reason}" for reason, count in counts.items())
    return (*skipped_lines(listing.skipped), *others)

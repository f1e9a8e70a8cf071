# SPDX-License-Identifier: Apache-2.0
"""Sizes of compared images: every distance depends on them, so differences are logged."""

from collections.abc import Collection, Iterator

from rich.console import Console

from pippin.control import Size
from pippin.system.terminal import print_above_progress
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

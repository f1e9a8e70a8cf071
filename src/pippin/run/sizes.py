# SPDX-License-Identifier: Apache-2.0
"""Sizes of images that are compared: every distance depends on them, so differences are said."""

from collections.abc import Collection, Iterator

from rich.console import Console

from pippin.control import Size
from pippin.system.terminal import note
from pippin.types import Images


class SeenSizes:
    """The sizes of images that pass by on their way to a network."""

    def __init__(self) -> None:
        self.sizes: set[Size] = set()

    def of(self, batches: Iterator[Images]) -> Iterator[Images]:
        """The same batches, each looked at when it is taken."""
        for images in batches:
            self.sizes.add(Size(*images.shape[2:]))
            yield images


def name_sizes(
    samples: Collection[Size], reference: Collection[Size], advice: str, console: Console
) -> None:
    """Say where samples have other sizes than the images they are compared with.

    Args:
        samples, reference: all sizes of each.
        advice: what makes them alike, said where the samples are squares of one size, whose side
            stands in the place of ``{side}``.
        console: where it is said.
    """
    if set(samples) == set(reference):
        return
    height, width = min(samples)
    known = len(set(samples)) == 1 and height == width
    note(
        console,
        f"samples are {_in_words(samples)}, the reference's images "
        f"{_in_words(reference)}, which changes every distance"
        + (f": {advice.format(side=height)}" if known else ""),
        label="other sizes:",
    )


def _in_words(sizes: Collection[Size]) -> str:
    least, most = min(sizes), max(sizes)
    if least == most:
        return f"{least.height} x {least.width} pixels"
    ends = " to ".join(f"{one.height} x {one.width}" for one in (least, most))
    return f"of {len(set(sizes))} sizes, {ends} pixels"

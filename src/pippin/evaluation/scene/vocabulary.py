# SPDX-License-Identifier: Apache-2.0
"""What a reader of scenes looks for: colours, places, and drawings of every object at one side."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

RGB = tuple[int, int, int]
Coverage = NDArray[np.float64]
"""(rows, columns): 0 where the background is, 1 where an object is."""

REACH = 1.6
"""Half the side of a normalised object, in units of the square root of its area."""
POINTS = 24
"""Points along each side of a normalised object."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One object alone, as the renderer draws it in an image of the reader's side."""

    shape: str
    size: str
    mirrored: bool
    centre: tuple[float, float]
    """(x, y) of the object, in pixels."""
    coverage: Coverage
    """Of the whole image."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """All that a scene can hold, at one side of the image."""

    side: int
    """Of the images that are read, in pixels."""
    grid: int
    """Places along each side."""
    colours: Mapping[str, RGB]
    backgrounds: Mapping[str, RGB]
    drawings: tuple[Drawing, ...]
    """Every shape, size and place, and the mirror images of those that differ from theirs."""


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What is measured of one object's coverage."""

    area: float
    """In pixels."""
    centroid: tuple[float, float]
    """(x, y) in pixels; the middle of the first pixel is 0.5."""
    softness: float
    """4 a (1 - a), added over its pixels: about the length of the edge times its width."""
    normalised: Coverage
    """Resampled about the centroid, as large as if the area were one."""


def outline_of(coverage: Coverage) -> Outline:
    """Area, centroid, softness and normalised form of an object that is alone in an image."""
    area = float(coverage.sum())
    rows, columns = np.indices(coverage.shape)
    y = float((coverage * rows).sum()) / area
    x = float((coverage * columns).sum()) / area
    steps = np.linspace(-REACH, REACH, POINTS) * area**0.5
    at = np.meshgrid(y + steps, x + steps, indexing="ij")
    normalised = ndimage.map_coordinates(coverage, at, order=1, mode="constant", cval=0.0)
    return Outline(
        area=area,
        centroid=(x + 0.5, y + 0.5),
        softness=float((4 * coverage * (1 - coverage)).sum()),
        normalised=normalised,
    )

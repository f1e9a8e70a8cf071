# SPDX-License-Identifier: Apache-2.0
"""Vocabulary of a scene reader: colours, grid cells, renderings of every object at one side."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

RGB = tuple[int, int, int]
Coverage = NDArray[np.float64]
"""Mask (rows, columns): 0 for the background, 1 for an object."""

REACH = 1.6
"""Half the width of a normalised object, in units of the square root of its area."""
POINTS = 24
"""Points along each side of a normalised object."""


@dataclass(frozen=True, kw_only=True)
class ObjectRendering:
    """Rendering of one object alone in an image of the reader's side."""

    shape: str
    size: str
    mirrored: bool
    centre: tuple[float, float]
    """Centre (x, y) of the object, in pixels."""
    coverage: Coverage
    """Mask of the whole image."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Possible content of a scene, at one side of the image."""

    side: int
    """Side of the images, in pixels."""
    grid: int
    """Number of cells along each side."""
    colours: Mapping[str, RGB]
    backgrounds: Mapping[str, RGB]
    renderings: tuple[ObjectRendering, ...]
    """Every shape, size and place, and the mirror image of each shape that is not symmetric."""


@dataclass(frozen=True, kw_only=True)
class Outline:
    """Geometry of one object's coverage."""

    area: float
    """Area in pixels."""
    centroid: tuple[float, float]
    """Centroid (x, y) in pixels; the middle of the first pixel is 0.5."""
    softness: float
    """Sum of 4 a (1 - a) over its pixels: about the length of the edge times its width."""
    normalised: Coverage
    """Coverage resampled about the centroid to unit area."""


def outline_of(coverage: Coverage) -> Outline:
    """Geometry of an object that is alone in an image."""
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

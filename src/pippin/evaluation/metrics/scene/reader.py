# SPDX-License-Identifier: Apache-2.0
"""Analytic reader of scenes, without a trained network and its biases.

1. The background b is the median colour. An image with less than half of its pixels of that colour
   shows no scene.
2. Every pixel p is modelled as a mixture b + a (c - b) of the background and the best-fitting
   colour c of the palette; pixels with a >= 1/2 belong to objects of that colour.
3. Connected pixels of a colour are one object, unless they are fewer than a third of the smallest
   object's.
4. An object is resampled about its centroid to unit area and compared with every template of the
   renderer by soft intersection over union. The best template gives shape and orientation; the
   area gives the size. An object that matches no template has no shape.
5. The place is the grid cell that contains the object's centre. The centre follows from the
   centroid and the template.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from pippin.types import Images

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


Pixels = NDArray[np.float64]

PLAIN = 30.0
"""Distance in RGB below which a pixel has the background's colour, and the background a name."""
SMALLEST_SHARE = 1 / 3
"""Share of the smallest object's area below which connected pixels are not an object."""
SIMILAR = 0.7
"""Smallest soft intersection over union at which an object has a shape."""
PURE = 45.0
"""Root mean square distance in RGB of an object's pixels from its mixtures above which it has no
colour."""


@dataclass(frozen=True, kw_only=True)
class DetectedObject:
    """One detected object."""

    colour: str | None
    """None: no colour of the palette."""
    shape: str | None
    """None: it matches no template."""
    size: str
    place: int
    """Grid cell, row by row from the top left."""
    mirrored: bool
    """True if the shape is mirrored; False for shapes that are their own mirror image."""
    centre: tuple[float, float]
    """(x, y) in shares of the image's side."""
    displacement: float
    """Distance of the centre from the centre of its grid cell, in sides of a cell."""
    similarity: float
    """Soft intersection over union with the best template."""
    softness: float
    """Relative excess width of its edge over the template's: 0 = as sharp, 1 = twice as wide."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Content of an image."""

    background: str | None
    """None: the image shows no scene, or the background's colour has no name."""
    objects: tuple[DetectedObject, ...]
    """Objects, largest first."""


@dataclass(frozen=True, kw_only=True)
class _Template:
    """Normalised rendering of an object that detected objects are compared with."""

    shape: str
    size: str
    mirrored: bool
    outline: Outline
    offset: tuple[float, float]
    """Offset from the centroid to the centre, in pixels."""


class SceneReader:
    """Reader of images of one side.

    Args:
        vocabulary: vocabulary of that side.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._colours = tuple(vocabulary.colours)
        self._palette = np.array([*vocabulary.colours.values()], float)
        self._templates = [_template(rendering) for rendering in vocabulary.renderings]
        self._masks = np.stack([template.outline.normalised for template in self._templates])
        self._smallest = min(template.outline.area for template in self._templates)
        self._rim = max(1, round(vocabulary.side / 64))

    def read(self, batches: Iterable[Images]) -> list[Reading]:
        """One reading per image, of all batches in order.

        Raises:
            ValueError: images of another side than the vocabulary's.
        """
        return [reading for images in batches for reading in self._batch(images)]

    def _batch(self, images: Images) -> Iterator[Reading]:
        side = self.vocabulary.side
        if tuple(images.shape[1:]) != (3, side, side):
            raise ValueError(
                f"the reader is for images of {side} x {side} pixels; got {tuple(images.shape)}"
            )
        pixels = images.permute(0, 2, 3, 1).to(torch.float64).cpu().numpy()
        yield from map(self._read, pixels)

    def _read(self, pixels: Pixels) -> Reading:
        background = np.median(pixels.reshape(-1, 3), axis=0)
        plain = np.linalg.norm(pixels - background, axis=-1) < PLAIN
        if plain.mean() < 0.5:
            return Reading(background=None, objects=())
        shares, misfits = _unmixed(pixels, background, self._palette)
        best = misfits.argmin(axis=0)
        strong = np.take_along_axis(shares, best[None], axis=0)[0] >= 0.5
        regions = []
        for colour in range(len(self._palette)):
            for region in _regions(strong & (best == colour)):
                thick = ndimage.binary_dilation(region, iterations=self._rim)
                coverage = np.where(thick, shares[colour].clip(0, 1), 0.0)
                if coverage.sum() >= SMALLEST_SHARE * self._smallest:
                    impurity = float((misfits[colour][region] ** 2).mean() ** 0.5)
                    regions.append((coverage, colour, impurity))
        regions.sort(key=lambda region_data: -float(region_data[0].sum()))
        return Reading(
            background=_nearest(self.vocabulary.backgrounds, background),
            objects=tuple(self._detected_object(*region_data) for region_data in regions),
        )

    def _detected_object(self, coverage: Coverage, colour: int, impurity: float) -> DetectedObject:
        outline = outline_of(coverage)
        low = np.minimum(self._masks, outline.normalised).sum(axis=(1, 2))
        high = np.maximum(self._masks, outline.normalised).sum(axis=(1, 2))
        best = int((low / high).argmax())
        template, similarity = self._templates[best], float(low[best] / high[best])
        same_shape = [
            candidate
            for candidate in self._templates
            if (candidate.shape, candidate.mirrored) == (template.shape, template.mirrored)
        ]
        nearest = min(
            same_shape, key=lambda candidate: abs(np.log(candidate.outline.area / outline.area))
        )
        grow = (outline.area / template.outline.area) ** 0.5
        x, y = (c + grow * o for c, o in zip(outline.centroid, template.offset, strict=True))
        cell = self.vocabulary.side / self.vocabulary.grid
        last = self.vocabulary.grid - 1
        column, row = (min(max(int(v // cell), 0), last) for v in (x, y))
        displacement = np.hypot(x / cell - column - 0.5, y / cell - row - 0.5)
        return DetectedObject(
            colour=self._colours[colour] if impurity < PURE else None,
            shape=template.shape if similarity >= SIMILAR else None,
            size=nearest.size,
            place=row * self.vocabulary.grid + column,
            mirrored=template.mirrored,
            centre=(x / self.vocabulary.side, y / self.vocabulary.side),
            displacement=float(displacement),
            similarity=similarity,
            softness=outline.softness / (grow * template.outline.softness) - 1,
        )


def _template(rendering: ObjectRendering) -> _Template:
    outline = outline_of(rendering.coverage)
    x, y = (c - m for c, m in zip(rendering.centre, outline.centroid, strict=True))
    return _Template(
        shape=rendering.shape,
        size=rendering.size,
        mirrored=rendering.mirrored,
        outline=outline,
        offset=(x, y),
    )


def _unmixed(
    pixels: Pixels, background: NDArray[np.float64], palette: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share a of each colour in every pixel, and the distance of the mixture from the pixel.

    Returns:
        shares, not clipped, and distances in RGB with the share clipped to [0, 1]; both
        (colours, rows, columns). The background's own colour has share 0 at an infinite distance.
    """
    directions = palette - background
    away = pixels - background
    lengths = (directions**2).sum(axis=1)
    shares = np.einsum("ijc,kc->kij", away, directions)
    shares /= np.where(lengths == 0, 1, lengths)[:, None, None]
    mixed = shares.clip(0, 1)[..., None] * directions[:, None, None]
    distances = np.linalg.norm(away - mixed, axis=-1)
    distances[lengths == 0] = np.inf
    return shares, distances


def _regions(mask: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """Connected components, by the four neighbours of a pixel."""
    if not mask.any():
        return
    labels, count = ndimage.label(mask)
    for number in range(1, count + 1):
        yield labels == number


def _nearest(colours: Mapping[str, RGB], colour: NDArray[np.float64]) -> str | None:
    """Name of the nearest colour; None beyond the reach of its name."""
    distances = {
        name: float(np.linalg.norm(np.array(rgb) - colour)) for name, rgb in colours.items()
    }
    nearest = min(distances, key=lambda name: distances[name])
    return nearest if distances[nearest] < PLAIN else None

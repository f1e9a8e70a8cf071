# SPDX-License-Identifier: Apache-2.0
"""An analytic reader of scenes: no trained network, so that it has no taste of its own.

1. The background b is the median colour. An image less than half of which has it shows no scene.
2. Every pixel p is taken for a mixture b + a (c - b) of the background and one colour c of the
   palette, the one that fits best; pixels with a >= 1/2 belong to objects of that colour.
3. Connected pixels of a colour are one object, unless they are fewer than a third of the smallest
   object's.
4. An object is resampled about its centroid to unit area and compared with every drawing of the
   renderer by soft intersection over union; the best gives shape and orientation, its area the
   size. One that is like no drawing has no shape.
5. The place is the cell of the grid that the object's centre lies in. The centre follows from the
   centroid and the drawing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from pippin.evaluation.scene.vocabulary import (
    RGB,
    Coverage,
    Drawing,
    Outline,
    Vocabulary,
    outline_of,
)
from pippin.types import Images

Pixels = NDArray[np.float64]

PLAIN = 30.0
"""Distance in RGB up to which a pixel has the background's colour."""
SMALLEST_SHARE = 1 / 3
"""Of the smallest object's area, below which connected pixels are no object."""
SIMILAR = 0.7
"""Soft intersection over union from which an object has a shape."""
PURE = 45.0
"""Root mean square distance in RGB of an object's pixels from its mixtures, from which on it has
no colour."""


@dataclass(frozen=True, kw_only=True)
class ReadThing:
    """One object that was found."""

    colour: str | None
    """None: no colour of the palette."""
    shape: str | None
    """None: like no drawing."""
    size: str
    place: int
    """Row by row, from the top left."""
    mirrored: bool
    """Drawn the other way round; False for shapes that are their own mirror image."""
    centre: tuple[float, float]
    """(x, y) in shares of the image's side."""
    displacement: float
    """Distance of the centre from that of its place, in sides of a cell."""
    similarity: float
    """Soft intersection over union with the best drawing."""
    softness: float
    """How much wider its edge is than the drawing's: 0 = as sharp, 1 = twice as wide."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What an image shows."""

    background: str | None
    """None: the image shows no scene."""
    things: tuple[ReadThing, ...]
    """The largest first."""


@dataclass(frozen=True, kw_only=True)
class _Known:
    """A drawing as the reader compares with it."""

    shape: str
    size: str
    mirrored: bool
    outline: Outline
    offset: tuple[float, float]
    """From the centroid to the centre, in pixels."""


class SceneReader:
    """Reads images of one side.

    Args:
        vocabulary: of that side.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._colours = tuple(vocabulary.colours)
        self._palette = np.array([*vocabulary.colours.values()], float)
        self._known = [_learned(drawing) for drawing in vocabulary.drawings]
        self._forms = np.stack([one.outline.normalised for one in self._known])
        self._smallest = min(one.outline.area for one in self._known)
        self._rim = max(1, round(vocabulary.side / 64))

    def read(self, batches: Iterable[Images]) -> list[Reading]:
        """One reading an image, of all batches in order.

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
        ground = np.median(pixels.reshape(-1, 3), axis=0)
        plain = np.linalg.norm(pixels - ground, axis=-1) < PLAIN
        if plain.mean() < 0.5:
            return Reading(background=None, things=())
        shares, misfits = _unmixed(pixels, ground, self._palette)
        best = misfits.argmin(axis=0)
        strong = np.take_along_axis(shares, best[None], axis=0)[0] >= 0.5
        things = []
        for colour in range(len(self._palette)):
            for region in _regions(strong & (best == colour)):
                thick = ndimage.binary_dilation(region, iterations=self._rim)
                coverage = np.where(thick, shares[colour].clip(0, 1), 0.0)
                if coverage.sum() >= SMALLEST_SHARE * self._smallest:
                    impurity = float((misfits[colour][region] ** 2).mean() ** 0.5)
                    things.append((coverage, colour, impurity))
        things.sort(key=lambda found: -float(found[0].sum()))
        return Reading(
            background=_nearest(self.vocabulary.backgrounds, ground),
            things=tuple(self._thing(*found) for found in things),
        )

    def _thing(self, coverage: Coverage, colour: int, impurity: float) -> ReadThing:
        outline = outline_of(coverage)
        low = np.minimum(self._forms, outline.normalised).sum(axis=(1, 2))
        high = np.maximum(self._forms, outline.normalised).sum(axis=(1, 2))
        best = int((low / high).argmax())
        like, similarity = self._known[best], float(low[best] / high[best])
        same = [k for k in self._known if (k.shape, k.mirrored) == (like.shape, like.mirrored)]
        nearest = min(same, key=lambda k: abs(np.log(k.outline.area / outline.area)))
        grow = (outline.area / like.outline.area) ** 0.5
        x, y = (c + grow * o for c, o in zip(outline.centroid, like.offset, strict=True))
        cell = self.vocabulary.side / self.vocabulary.grid
        last = self.vocabulary.grid - 1
        column, row = (min(max(int(v // cell), 0), last) for v in (x, y))
        away = np.hypot(x / cell - column - 0.5, y / cell - row - 0.5)
        return ReadThing(
            colour=self._colours[colour] if impurity < PURE else None,
            shape=like.shape if similarity >= SIMILAR else None,
            size=nearest.size,
            place=row * self.vocabulary.grid + column,
            mirrored=like.mirrored,
            centre=(x / self.vocabulary.side, y / self.vocabulary.side),
            displacement=float(away),
            similarity=similarity,
            softness=outline.softness / (grow * like.outline.softness) - 1,
        )


def _learned(drawing: Drawing) -> _Known:
    outline = outline_of(drawing.coverage)
    x, y = (c - m for c, m in zip(drawing.centre, outline.centroid, strict=True))
    return _Known(
        shape=drawing.shape,
        size=drawing.size,
        mirrored=drawing.mirrored,
        outline=outline,
        offset=(x, y),
    )


def _unmixed(
    pixels: Pixels, ground: NDArray[np.float64], palette: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each colour its share a in every pixel, and how far the mixture is from the pixel.

    Returns:
        shares, not clipped, and distances in RGB with the share clipped to [0, 1]; both
        (colours, rows, columns).
    """
    directions = palette - ground
    away = pixels - ground
    shares = np.einsum("ijc,kc->kij", away, directions)
    shares /= (directions**2).sum(axis=1)[:, None, None]
    mixed = shares.clip(0, 1)[..., None] * directions[:, None, None]
    return shares, np.linalg.norm(away - mixed, axis=-1)


def _regions(mask: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """Connected parts, by the four neighbours of a pixel."""
    if not mask.any():
        return
    labels, count = ndimage.label(mask)
    for number in range(1, count + 1):
        yield labels == number


def _nearest(colours: Mapping[str, RGB], colour: NDArray[np.float64]) -> str:
    return min(colours, key=lambda name: float(np.linalg.norm(np.array(colours[name]) - colour)))

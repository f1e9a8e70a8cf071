# SPDX-License-Identifier: Apache-2.0
"""Drawings of scenes, exact at every side.

Each object is drawn by resvg as coverage, 0 to 255, on the pixels around it alone, and laid over
the background with its colour. That gives the pixels of one SVG of the whole scene
(:func:`scene_svg`) up to rounding, at a fifth of the time for large images.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from pippin.data.rasterise import rasterise_svg
from pippin.data.shapes.scene import BACKGROUNDS, COLOURS, SIDE, Scene, Thing

REACH = 1.1
"""No object reaches further from its centre, in half extents."""


def _star(points: int = 5, outer: float = 1.08, inner: float = 0.46) -> str:
    corners = []
    for k in range(2 * points):
        radius, angle = (outer, inner)[k % 2], math.pi * k / points
        corners.append(f"{radius * math.sin(angle):.4f} {0.08 - radius * math.cos(angle):.4f}")
    return f"M{' L'.join(corners)}Z"


OUTLINES: dict[str, str] = {
    "circle": "M-1 0 A1 1 0 0 1 1 0 A1 1 0 0 1 -1 0Z",
    "square": "M-.88 -.88H.88V.88H-.88Z",
    "triangle": "M0 -1L1 .85H-1Z",
    "star": _star(),
    "arrow": "M-1 -.3H.05V-.9L1 0L.05 .9V.3H-1Z",
    "flag": "M-.8 -1H.85V.2H-.38V1H-.8Z",
}
"""Paths within [-1, 1] or a little more."""


class Stamp(NamedTuple):
    """Coverage of one object at one side of the image."""

    top: int
    left: int
    coverage: UInt8[Tensor, "rows columns"]
    """0: background, 255: object."""


@lru_cache(maxsize=16384)
def stamp(shape: str, size: str, place: int, side: int) -> Stamp:
    """A square of pixels around an object in an image of ``side`` pixels.

    It lies within the image, for every object lies within its cell.
    """
    thing = Thing(shape=shape, colour="black", size=size, place=place)
    unit = side / SIDE  # pixels of one
    left, top = (math.floor((middle - REACH * thing.radius) * unit) for middle in thing.centre)
    pixels = min(math.ceil(2 * REACH * thing.radius * unit) + 1, side - max(left, top))
    box = f"{left / unit!r} {top / unit!r} {pixels / unit!r} {pixels / unit!r}"
    drawn = rasterise_svg(_svg(box, pixels, _path(thing, "#fff")), pixels, pixels, "black")
    return Stamp(top=top, left=left, coverage=drawn[0].contiguous())


def draw_image(scene: Scene, side: int) -> UInt8[Tensor, "3 side side"]:
    """A scene at ``side`` x ``side`` pixels, without any resize.

    Raises:
        ValueError: ``side`` is below 1.
    """
    if side < 1:
        raise ValueError(f"an image's side must be at least 1 pixel; got {side}")
    ground = torch.tensor(BACKGROUNDS[scene.background], dtype=torch.uint8)
    image = ground[:, None, None].expand(3, side, side).clone()
    for thing in scene.things:
        top, left, coverage = stamp(thing.shape, thing.size, thing.place, side)
        rows, columns = coverage.shape
        region = image[:, top : top + rows, left : left + columns]
        share = coverage.float() / 255
        colour = torch.tensor(COLOURS[thing.colour], dtype=torch.float32)[:, None, None]
        region.copy_(torch.lerp(region.float(), colour, share).round())
    return image


def scene_svg(scene: Scene) -> str:
    """The same scene as one SVG document."""
    ground = _hex(BACKGROUNDS[scene.background])
    parts = [f'<rect width="{SIDE:g}" height="{SIDE:g}" fill="{ground}"/>']
    parts += [_path(thing, _hex(COLOURS[thing.colour])) for thing in scene.things]
    return _svg(f"0 0 {SIDE:g} {SIDE:g}", SIDE, "".join(parts))


def _path(thing: Thing, fill: str) -> str:
    x, y = thing.centre
    return (
        f'<path fill="{fill}" transform="translate({x:g} {y:g}) scale({thing.radius:g})" '
        f'd="{OUTLINES[thing.shape]}"/>'
    )


def _svg(box: str, side: float, content: str) -> str:
    """A square document of its own size in pixels: resvg rounds the size of a box of fractions."""
    head = f'xmlns="http://www.w3.org/2000/svg" width="{side:g}" height="{side:g}"'
    return f'<svg {head} viewBox="{box}">{content}</svg>'


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in colour)

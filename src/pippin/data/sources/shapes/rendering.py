# SPDX-License-Identifier: Apache-2.0
"""Rendering of scenes, exact at every resolution.

resvg renders each object as coverage, 0 to 255, on the pixels around it, and the object's colour
is composited over the background. The result equals the rendered SVG of the whole scene
(:func:`scene_svg`) up to rounding, in a fifth of the time for large images.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from pippin.data.sources.rasterise import rasterise_svg
from pippin.data.sources.shapes.scene import BACKGROUNDS, COLOURS, SIDE, Scene, Thing

REACH = 1.1
"""Maximum distance of an object's outline from its centre, in half extents."""


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
"""SVG paths, within [-1, 1] or slightly more."""


class ObjectMask(NamedTuple):
    """Coverage of one object at one image resolution."""

    top: int
    left: int
    coverage: UInt8[Tensor, "rows columns"]
    """0: background, 255: object."""


@lru_cache(maxsize=16384)
def object_mask(shape: str, size: str, place: int, side: int) -> ObjectMask:
    """Render the coverage of a square around an object, in an image of ``side`` pixels.

    The square is inside the image, because every object is inside its cell.
    """
    item = Thing(shape=shape, colour="black", size=size, place=place)
    unit = side / SIDE  # pixels per scene unit
    left, top = (math.floor((middle - REACH * item.radius) * unit) for middle in item.centre)
    pixels = min(math.ceil(2 * REACH * item.radius * unit) + 1, side - max(left, top))
    box = f"{left / unit!r} {top / unit!r} {pixels / unit!r} {pixels / unit!r}"
    image = rasterise_svg(_svg(box, pixels, _path(item, "#fff")), pixels, pixels, "black")
    return ObjectMask(top=top, left=left, coverage=image[0].contiguous())


def render_scene(scene: Scene, side: int) -> UInt8[Tensor, "3 side side"]:
    """Render a scene at ``side`` x ``side`` pixels, without a resize.

    Raises:
        ValueError: ``side`` is below 1.
    """
    if side < 1:
        raise ValueError(f"an image's side must be at least 1 pixel; got {side}")
    background = torch.tensor(BACKGROUNDS[scene.background], dtype=torch.uint8)
    image = background[:, None, None].expand(3, side, side).clone()
    for item in scene.objects:
        top, left, coverage = object_mask(item.shape, item.size, item.place, side)
        rows, columns = coverage.shape
        region = image[:, top : top + rows, left : left + columns]
        share = coverage.float() / 255
        colour = torch.tensor(COLOURS[item.colour], dtype=torch.float32)[:, None, None]
        region.copy_(torch.lerp(region.float(), colour, share).round())
    return image


def scene_svg(scene: Scene) -> str:
    """Scene as one SVG document."""
    background = _hex(BACKGROUNDS[scene.background])
    parts = [f'<rect width="{SIDE:g}" height="{SIDE:g}" fill="{background}"/>']
    parts += [_path(item, _hex(COLOURS[item.colour])) for item in scene.objects]
    return _svg(f"0 0 {SIDE:g} {SIDE:g}", SIDE, "".join(parts))


def _path(item: Thing, fill: str) -> str:
    x, y = item.centre
    return (
        f'<path fill="{fill}" transform="translate({x:g} {y:g}) scale({item.radius:g})" '
        f'd="{OUTLINES[item.shape]}"/>'
    )


def _svg(box: str, side: float, content: str) -> str:
    """Square document with an explicit size in pixels, because resvg rounds fractional boxes."""
    head = f'xmlns="http://www.w3.org/2000/svg" width="{side:g}" height="{side:g}"'
    return f'<svg {head} viewBox="{box}">{content}</svg>'


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in colour)

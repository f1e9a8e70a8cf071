# SPDX-License-Identifier: Apache-2.0
"""Pixels and their control metadata.

:func:`draw_control` draws how an image is prepared, :func:`apply_control` does it. Applying a
recorded Control to the same source image gives the identical tensor again.
"""

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from pippin.control import Control, Corner, Look, Size
from pippin.data.config import CropLaw
from pippin.data.look import CLEAN, apply_look
from pippin.data.tie import FREE, Tie

SQUARE = Size(1, 1)
"""The shape of training images without buckets."""


def draw_control(
    original_size: Size,
    law: CropLaw,
    generator: torch.Generator,
    *,
    size: Size,
    look: Look = CLEAN,
    tie: Tie = FREE,
) -> Control:
    """Draw a crop of the training image's shape and a flip.

    The longer side is uniform in ``law.smallest`` to ``law.largest`` times that of the largest
    such crop (of a square: times the source's shorter side), rounded to whole pixels; that of a
    local view is the training image's own, as far as the source reaches. The corner is uniform
    over all places where the crop fits. Five uniform numbers are taken from the generator,
    whatever the law.

    Args:
        original_size: of the source image.
        law: shares of the largest crop, how often to flip and to look at a part.
        generator: of the view's own stream.
        size: of the training image, in pixels.
        look: recorded beside; see :func:`pippin.data.look.draw_look`.
        tie: of corner and flip to the class.
    """
    share, top, left, flip, local = torch.rand(5, generator=generator).tolist()
    top, left, flip = tie("crop", top), tie("crop", left), tie("flip", flip)
    longest = _longest(original_size, size)
    longer = max(1, round((law.smallest + share * (law.largest - law.smallest)) * longest))
    if local < law.local_share:
        longer = min(max(size), int(longest))
    crop = crop_of(size, longer)
    rooms = (whole - part + 1 for whole, part in zip(original_size, crop, strict=True))
    corner = Corner(*(int(place * room) for place, room in zip((top, left), rooms, strict=True)))
    return Control(
        original_size=original_size,
        crop_corner=corner,
        crop_size=crop,
        flip=flip < law.flip_probability,
        **vars(look),
    )


def crop_of(size: Size, longer: int) -> Size:
    """The crop in the shape of a training image that has this longer side; the shorter one is
    rounded to whole pixels, at least one."""
    shorter = max(1, round(longer * min(size) / max(size)))
    return Size(longer, shorter) if size.height >= size.width else Size(shorter, longer)


def _longest(original_size: Size, size: Size) -> float:
    """The longer side of the largest crop in the shape of a training image."""
    pairs = zip(original_size, size, strict=True)
    return min(whole * max(size) / side for whole, side in pairs)


def apply_control(
    source: UInt8[Tensor, "3 source_height source_width"],
    control: Control,
    height: int,
    width: int | None = None,
) -> UInt8[Tensor, "3 height width"]:
    """Crop, mirror where ``control.flip``, resize to the training image's size, give it its look.

    The resize is bicubic and antialiased (the filter widens when the image shrinks), computed in
    float32 and rounded once. A crop that has the training image's size passes unchanged.

    Args:
        source: the image that the control is of.
        control: how it is prepared.
        height, width: of the training image; one side alone is that of a square.

    Raises:
        ValueError: the control does not fit the source, or the crop has another shape.
    """
    size = Size(height, height if width is None else width)
    check_control(control, Size(*source.shape[1:]), size)
    (top, left), (rows, columns) = control.crop_corner, control.crop_size
    region = source[:, top : top + rows, left : left + columns]
    if control.flip:
        region = region.flip(-1)
    resized = interpolate(
        region[None].float(),
        size=tuple(size),
        mode="bicubic",
        align_corners=False,
        antialias=True,
    )
    return apply_look(resized[0].round().clamp(0, 255).to(torch.uint8), control)


def whole_image(original_size: Size, size: Size = SQUARE) -> Control:
    """The control of the whole image, unflipped.

    Args:
        original_size: of the image.
        size: any in the shape that is wanted.

    Raises:
        ValueError: the image has another shape.
    """
    control = Control(
        original_size=original_size, crop_corner=Corner(0, 0), crop_size=original_size, flip=False
    )
    check_control(control, original_size, size)
    return control


def check_control(control: Control, source_size: Size, size: Size) -> None:
    """Refuse a control that cannot be applied to a source image of this size, or whose crop has
    another shape than the training image.

    Raises:
        ValueError: with the sizes that disagree.
    """
    if control.original_size != source_size:
        raise ValueError(
            f"the control is of a source of {tuple(control.original_size)} pixels "
            f"(height, width), but the image has {tuple(source_size)}"
        )
    (top, left), (height, width) = control.crop_corner, control.crop_size
    inside = 0 <= top <= source_size.height - height and 0 <= left <= source_size.width - width
    if not inside or height < 1 or width < 1:
        raise ValueError(
            f"a crop of {(height, width)} pixels at (top, left) = {(top, left)} does not fit "
            f"into a source of {tuple(source_size)}"
        )
    if control.crop_size != crop_of(size, max(height, width)):
        wanted = "square" if size.height == size.width else f"in the shape of {tuple(size)}"
        raise ValueError(
            f"the crop must be {wanted}, because the image is; got {(height, width)} pixels"
        )

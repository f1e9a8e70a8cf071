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


def draw_control(
    original_size: Size,
    law: CropLaw,
    generator: torch.Generator,
    *,
    resolution: int,
    look: Look = CLEAN,
) -> Control:
    """Draw a square crop and a flip.

    The side is uniform in ``law.smallest`` to ``law.largest`` times the shorter side, rounded to
    whole pixels; that of a local view is ``resolution``, as far as the source reaches. The corner
    is uniform over all places where the crop fits. Five uniform numbers are taken from the
    generator, whatever the law.

    Args:
        original_size: of the source image.
        law: shares of the shorter side, how often to flip and to look at a part.
        generator: of the view's own stream.
        resolution: of training images, in pixels.
        look: recorded beside; see :func:`pippin.data.look.draw_look`.
    """
    share, top, left, flip, local = torch.rand(5, generator=generator).tolist()
    height, width = original_size
    shorter = min(height, width)
    side = max(1, round((law.smallest + share * (law.largest - law.smallest)) * shorter))
    if local < law.local_share:
        side = min(resolution, shorter)
    return Control(
        original_size=original_size,
        crop_corner=Corner(int(top * (height - side + 1)), int(left * (width - side + 1))),
        crop_size=Size(side, side),
        flip=flip < law.flip_probability,
        **vars(look),
    )


def apply_control(
    source: UInt8[Tensor, "3 height width"], control: Control, resolution: int
) -> UInt8[Tensor, "3 resolution resolution"]:
    """Crop, mirror where ``control.flip``, resize to the training resolution, give it its look.

    The resize is bicubic and antialiased (the filter widens when the image shrinks), computed in
    float32 and rounded once. A crop that has the training resolution passes unchanged.

    Raises:
        ValueError: the control does not fit the source, or the crop is not square.
    """
    check_control(control, Size(*source.shape[1:]))
    (top, left), (height, width) = control.crop_corner, control.crop_size
    region = source[:, top : top + height, left : left + width]
    if control.flip:
        region = region.flip(-1)
    resized = interpolate(
        region[None].float(),
        size=(resolution, resolution),
        mode="bicubic",
        align_corners=False,
        antialias=True,
    )
    return apply_look(resized[0].round().clamp(0, 255).to(torch.uint8), control)


def whole_image(original_size: Size) -> Control:
    """The control of the whole image, unflipped.

    Raises:
        ValueError: the image is not square.
    """
    control = Control(
        original_size=original_size, crop_corner=Corner(0, 0), crop_size=original_size, flip=False
    )
    check_control(control, original_size)
    return control


def check_control(control: Control, source_size: Size) -> None:
    """Refuse a control that cannot be applied to a source image of this size.

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
    if height != width:
        raise ValueError(
            f"the crop must be square, because training images are; got {(height, width)} pixels"
        )

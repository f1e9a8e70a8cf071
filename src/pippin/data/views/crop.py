# SPDX-License-Identifier: Apache-2.0
"""Crop, flip and resize of images, with their control metadata.

:func:`draw_control` draws how an image is prepared and :func:`apply_control` prepares it. A
recorded Control applied to the same source image gives the identical tensor again.
"""

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from pippin.control import Augmentation, Control, Corner, Size
from pippin.data.config import CropConfig
from pippin.data.views.augmentation import CLEAN, apply_augmentation
from pippin.data.views.size import INDEPENDENT, ClassCopula

SQUARE_SHAPE = Size(1, 1)
"""Shape of training images without buckets."""


def draw_control(
    original_size: Size,
    config: CropConfig,
    generator: torch.Generator,
    *,
    size: Size,
    augmentation: Augmentation = CLEAN,
    copula: ClassCopula = INDEPENDENT,
) -> Control:
    """Draw a crop with the training image's aspect ratio, and a flip.

    The longer side is uniform in ``config.smallest`` to ``config.largest`` times that of the
    largest such crop (for a square: times the source's shorter side), rounded to whole pixels. A
    local view has the training image's own size, limited by the source. The corner is uniform
    over all positions where the crop fits. The generator gives five uniform numbers, whatever the
    configuration.

    Args:
        original_size: size of the source image.
        config: range of crop sizes, flip probability and share of local views.
        generator: random stream of the view.
        size: size of the training image, in pixels.
        augmentation: augmentation to record; see
            :func:`pippin.data.views.augmentation.draw_augmentation`.
        copula: correlation of corner and flip with the class.
    """
    share, top, left, flip, local = torch.rand(5, generator=generator).tolist()
    top, left, flip = copula("crop", top), copula("crop", left), copula("flip", flip)
    longest = _longest(original_size, size)
    longer = max(
        1, round((config.smallest + share * (config.largest - config.smallest)) * longest)
    )
    if local < config.local_share:
        longer = min(max(size), int(longest))
    crop = crop_size_of(size, longer)
    counts = (source - side + 1 for source, side in zip(original_size, crop, strict=True))
    corner = Corner(*(int(uniform * n) for uniform, n in zip((top, left), counts, strict=True)))
    return Control(
        original_size=original_size,
        crop_corner=corner,
        crop_size=crop,
        flip=flip < config.flip_probability,
        **vars(augmentation),
    )


def crop_size_of(size: Size, longer: int) -> Size:
    """Crop with a training image's aspect ratio and a given longer side; the shorter side is
    rounded to whole pixels, at least one."""
    shorter = max(1, round(longer * min(size) / max(size)))
    return Size(longer, shorter) if size.height >= size.width else Size(shorter, longer)


def _longest(original_size: Size, size: Size) -> float:
    """Longer side of the largest crop with a training image's aspect ratio."""
    pairs = zip(original_size, size, strict=True)
    return min(source * max(size) / side for source, side in pairs)


def apply_control(
    source: UInt8[Tensor, "3 source_height source_width"],
    control: Control,
    height: int,
    width: int | None = None,
) -> UInt8[Tensor, "3 height width"]:
    """Crop, flip if ``control.flip``, resize to the training image's size, and augment.

    The resize is bicubic and antialiased (the filter widens when the image shrinks), computed in
    float32 and rounded once. A crop of the training image's size is unchanged.

    Args:
        source: the image to prepare.
        control: parameters of the preparation.
        height, width: size of the training image; one side alone means a square.

    Raises:
        ValueError: the control does not fit the source, or the crop has another aspect ratio.
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
    return apply_augmentation(resized[0].round().clamp(0, 255).to(torch.uint8), control)


def whole_image(original_size: Size, size: Size = SQUARE_SHAPE) -> Control:
    """Control of the whole image, unflipped.

    Args:
        original_size: size of the image.
        size: any size with the required aspect ratio.

    Raises:
        ValueError: the image has another aspect ratio.
    """
    control = Control(
        original_size=original_size, crop_corner=Corner(0, 0), crop_size=original_size, flip=False
    )
    check_control(control, original_size, size)
    return control


def check_control(control: Control, source_size: Size, size: Size) -> None:
    """Check that a control fits a source image of this size, and that its crop has the training
    image's aspect ratio.

    Raises:
        ValueError: the sizes disagree.
    """
    if control.original_size != source_size:
        raise ValueError(
            f"the control belongs to a source of {tuple(control.original_size)} pixels "
            f"(height, width), but the image has {tuple(source_size)}"
        )
    (top, left), (height, width) = control.crop_corner, control.crop_size
    inside = 0 <= top <= source_size.height - height and 0 <= left <= source_size.width - width
    if not inside or height < 1 or width < 1:
        raise ValueError(
            f"a crop of {(height, width)} pixels at (top, left) = {(top, left)} does not fit "
            f"into a source of {tuple(source_size)}"
        )
    if control.crop_size != crop_size_of(size, max(height, width)):
        allowed = "square" if size.height == size.width else f"in the shape of {tuple(size)}"
        raise ValueError(
            f"the crop must be {allowed}, because the image is; got {(height, width)} pixels"
        )

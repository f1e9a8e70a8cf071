# SPDX-License-Identifier: Apache-2.0
"""Views of images for training, and their exact counterfactuals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from pippin.control import Control, Size
from pippin.data.config import DataConfig
from pippin.data.source import ImageSource
from pippin.data.views.augmentation import draw_augmentation
from pippin.data.views.crop import apply_control, draw_control
from pippin.data.views.size import INDEPENDENT, ClassCopula, ClassCorrelatedSource
from pippin.rng import generator
from pippin.types import ControlBatch, Images, stack_controls


@dataclass(frozen=True, kw_only=True)
class View:
    """Prepared image."""

    image: UInt8[Tensor, "3 height width"]
    control: Control
    """Parameters of the preparation."""
    label: int


def view_control(source: ImageSource, index: int, view: int, size: Size | None = None) -> Control:
    """Control of view ``view`` of an image; depends on (seed, image, view) and size only.

    Args:
        source: the images.
        index: index of the image.
        view: index of the view.
        size: size of the view in pixels; None = size from the source's configuration, or of the
            bucket.

    Raises:
        ValueError: the view is not in range(config.views).
    """
    copula = (
        source.class_copula(index) if isinstance(source, ClassCorrelatedSource) else INDEPENDENT
    )
    original_size = source.original_size(index)
    return draw_view(source.config, source.key(index), view, original_size, size, copula)


def draw_view(
    config: DataConfig,
    key: str,
    view: int,
    original_size: Size,
    size: Size | None = None,
    copula: ClassCopula = INDEPENDENT,
) -> Control:
    """Control of view ``view`` of an image that no source holds; see :func:`view_control`.

    Args:
        config: configuration of the data set.
        key: key of the image in random streams.
        view: index of the view.
        original_size: size of the image in pixels.
        size: size of the view in pixels; None = see :func:`view_control`.
        copula: correlation of the controls with the class.

    Raises:
        ValueError: the view is not in range(config.views).
    """
    if not 0 <= view < config.views:
        raise ValueError(f"view must be in range({config.views}); got {view}")
    stream = (config.seed, key, view)
    augmentation = draw_augmentation(config.look, generator("view", *stream, "look"), copula)
    size = size or config.view_size(original_size)
    draws = generator("view", *stream, "crop")
    return draw_control(
        original_size, config.crop_law, draws, size=size, augmentation=augmentation, copula=copula
    )


def make_view(source: ImageSource, index: int, view: int, size: Size | None = None) -> View:
    """Prepare view ``view`` of an image; its skin tone depends on (seed, image, view) only.

    Args:
        source, index, view, size: see :func:`view_control`.

    Raises:
        ValueError: see :func:`view_control`.
    """
    size = size or source.config.view_size(source.original_size(index))
    control = view_control(source, index, view, size)
    image = apply_control(source.image(index, view), control, *size)
    return View(image=image, control=control, label=source.label(index))


def clean_view(source: ImageSource, index: int) -> View:
    """Deterministic view of an image at the training resolution, without augmentation.

    OpenMoji: the whole untoned image at 256 pixels. Custom data sets: the centred square, whatever
    the bucket. Clean views are never flipped. They form the reference set of an evaluation.
    """
    control = source.clean_control(index)
    image = counterfactual(source, index, control)
    return View(image=image, control=control, label=source.label(index))


def clean_images(source: ImageSource, batch_size: int) -> Iterator[Images]:
    """Clean views of all images in order, with one batch in memory at a time."""
    for part in torch.arange(len(source)).split(batch_size):
        yield torch.stack([clean_view(source, index).image for index in part.tolist()])


def counterfactual(
    source: ImageSource,
    index: int,
    control: Control,
    view: int | None = None,
    size: Size | None = None,
) -> UInt8[Tensor, "3 height width"]:
    """Image prepared with another control.

    The image is created at ``control.original_size`` and then cropped, flipped and resized as the
    control says. An SVG drawing is rendered again, so this is exact. Image files are downsampled
    to the smaller size, and never upsampled. The control of ``make_view(source, index, view)``,
    with the same ``view`` and size, gives the same image.

    Args:
        control: control in pixels of the hypothetical source image.
        view: view that determines the skin tone; None = untoned.
        size: size of the image in pixels; None = the square of the training resolution.

    Raises:
        ValueError: the source cannot return the image at this size
            (:meth:`ImageSource.can_show`), or the crop does not fit or has another aspect ratio.
    """
    image = source.image(index, view, control.original_size)
    return apply_control(image, control, *(size or square_size(source)))


def square_size(source: ImageSource) -> Size:
    """Default size of evaluated and generated images."""
    return Size(source.config.resolution, source.config.resolution)


@dataclass(frozen=True, kw_only=True)
class ViewBatch:
    """Batch of prepared images."""

    images: Images
    control: ControlBatch
    label: Int[Tensor, " batch"]


def make_views(
    source: ImageSource,
    indices: Sequence[int],
    views: Sequence[int],
    size: Size | None = None,
) -> ViewBatch:
    """Prepare view ``views[k]`` of image ``indices[k]`` for every k.

    Args:
        source, size: see :func:`view_control`.
        indices: indices of the images, of one bucket unless a size is given.
        views: index of the view of each image.

    Raises:
        ValueError: a view is not in range(config.views), or the images belong to several buckets.
    """
    views_made = [make_view(source, i, v, size) for i, v in zip(indices, views, strict=True)]
    if len(sizes := {tuple(view.image.shape[1:]) for view in views_made}) > 1:
        raise ValueError(
            f"views of the sizes {sorted(sizes)} make no batch: use images of one bucket, or "
            "give a size"
        )
    return ViewBatch(
        images=torch.stack([view.image for view in views_made]),
        control=stack_controls([view.control for view in views_made]),
        label=torch.tensor([view.label for view in views_made]),
    )

# SPDX-License-Identifier: Apache-2.0
"""Views: what a training step sees of one picture, and its exact counterfactuals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from pippin.control import Control, Size
from pippin.data.crop import apply_control, draw_control
from pippin.data.look import draw_look
from pippin.data.source import PictureSource
from pippin.data.tie import FREE, TiedSource
from pippin.rng import generator
from pippin.types import ControlBatch, Images, stack_controls


@dataclass(frozen=True, kw_only=True)
class View:
    """One prepared image."""

    image: UInt8[Tensor, "3 height width"]
    control: Control
    """How the image was prepared."""
    label: int


def view_control(
    source: PictureSource, index: int, view: int, size: Size | None = None
) -> Control:
    """How view ``view`` of a picture is prepared; depends on (seed, picture, view) and size only.

    Args:
        source: the pictures.
        index: which picture.
        view: which view.
        size: of the view in pixels; None = as the source's configuration says, of its bucket.

    Raises:
        ValueError: the view is not in range(config.views).
    """
    config = source.config
    if not 0 <= view < config.views:
        raise ValueError(f"view must be in range({config.views}); got {view}")
    key = (config.seed, source.key(index), view)
    tie = source.tie(index) if isinstance(source, TiedSource) else FREE
    look = draw_look(config.look, generator("view", *key, "look"), tie)
    original_size = source.original_size(index)
    size = size or config.view_size(original_size)
    draws = generator("view", *key, "crop")
    return draw_control(original_size, config.crop_law, draws, size=size, look=look, tie=tie)


def make_view(source: PictureSource, index: int, view: int, size: Size | None = None) -> View:
    """View ``view`` of a picture; its tone too depends on (seed, picture, view) only.

    Args:
        source, index, view, size: as for :func:`view_control`.

    Raises:
        ValueError: as :func:`view_control`.
    """
    size = size or source.config.view_size(source.original_size(index))
    control = view_control(source, index, view, size)
    image = apply_control(source.image(index, view), control, *size)
    return View(image=image, control=control, label=source.label(index))


def clean_view(source: PictureSource, index: int) -> View:
    """A picture at the training resolution with nothing left to chance, as its source says.

    OpenMoji: untoned, drawn at 256 pixels, whole. Own pictures: the centred square, whatever
    bucket they are trained on in. Never flipped.
    The reference set of an evaluation is made of clean views.
    """
    control = source.clean_control(index)
    image = counterfactual(source, index, control)
    return View(image=image, control=control, label=source.label(index))


def clean_images(source: PictureSource, batch_size: int) -> Iterator[Images]:
    """The clean views of all pictures in order, one batch in memory at a time."""
    for part in torch.arange(len(source)).split(batch_size):
        yield torch.stack([clean_view(source, index).image for index in part.tolist()])


def counterfactual(
    source: PictureSource,
    index: int,
    control: Control,
    view: int | None = None,
    size: Size | None = None,
) -> UInt8[Tensor, "3 height width"]:
    """The same picture as it would look prepared in another way.

    It is made at ``control.original_size`` and then cropped, mirrored and resized as the control
    says. A vector drawing is drawn anew, so this is exact; a file of pixels is shrunk as a smaller
    file would have been, and never enlarged. For the control of ``make_view(source, index,
    view)``, the same ``view`` and the size of its image it gives that image.

    Args:
        control: in pixels of the imagined source image.
        view: which view's skin tone; None = untoned.
        size: of the image in pixels; None = the square of the training resolution.

    Raises:
        ValueError: the source does not know the picture at this size
            (:meth:`PictureSource.can_show`), or the crop has another shape or does not fit.
    """
    image = source.image(index, view, control.original_size)
    return apply_control(image, control, *(size or square(source)))


def square(source: PictureSource) -> Size:
    """The size at which images are evaluated and drawn unless another is asked for."""
    return Size(source.config.resolution, source.config.resolution)


@dataclass(frozen=True, kw_only=True)
class ViewBatch:
    """Prepared images, stacked."""

    images: Images
    control: ControlBatch
    label: Int[Tensor, " batch"]


def make_views(
    source: PictureSource,
    indices: Sequence[int],
    views: Sequence[int],
    size: Size | None = None,
) -> ViewBatch:
    """View ``views[k]`` of picture ``indices[k]`` for every k.

    Args:
        source, size: as for :func:`view_control`.
        indices: which pictures, of one bucket unless a size is given.
        views: which view of each.

    Raises:
        ValueError: a view is not in range(config.views), or the pictures are of several buckets.
    """
    made = [make_view(source, i, v, size) for i, v in zip(indices, views, strict=True)]
    if len(sizes := {tuple(view.image.shape[1:]) for view in made}) > 1:
        raise ValueError(
            f"views of the sizes {sorted(sizes)} make no batch: take pictures of one bucket, or "
            "give a size"
        )
    return ViewBatch(
        images=torch.stack([view.image for view in made]),
        control=stack_controls([view.control for view in made]),
        label=torch.tensor([view.label for view in made]),
    )

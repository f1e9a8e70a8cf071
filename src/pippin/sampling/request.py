# SPDX-License-Identifier: Apache-2.0
"""Conditions of a batch of samples, from a user's request and from the data."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import fields

import torch

from pippin.control import AUGMENTATION_FIELDS, LARGEST_SIDE, Control, Corner, Size
from pippin.data.config import NoDataConfig, OpenMojiConfig, ShapesConfig, has_buckets
from pippin.data.source import ImageSource
from pippin.data.views.crop import SQUARE_SHAPE, crop_size_of, whole_image
from pippin.data.views.views import view_control
from pippin.rng import uniform
from pippin.sampling.config import ControlRequest
from pippin.sampling.load import LoadedRun
from pippin.types import Conditions, ControlBatch, Prompt, TextFeatures, stack_controls


def request_conditions(
    labels: Sequence[int] | None,
    request: ControlRequest,
    control_names: Collection[str],
    *,
    num_classes: int,
    count: int | None = None,
    controls: Sequence[Control] | None = None,
    text: TextFeatures | None = None,
    negative_text: TextFeatures | None = None,
) -> Conditions:
    """Build the conditions, one row per sample.

    Args:
        labels: class ids in [0, num_classes), one per sample; None for a model without classes.
        request: the control values of every sample, in pixels of an imagined source image.
        control_names: the fields of :class:`pippin.control.Control` that the model reads.
        num_classes: number of classes of the model.
        count: number of samples; needed only without labels.
        controls: one per sample, where the request leaves them to the data.
        text, negative_text: for a text model, one row per sample.

    Raises:
        ValueError: a label that does not exist, an unknown control name, or a control value
            other than the default that the model has no input for.
    """
    if labels is None and count is None:
        raise ValueError("without labels, count must give the number of samples")
    if labels is not None and count not in (None, len(labels)):
        raise ValueError(f"count={count}, but there are {len(labels)} labels; leave count out")
    rows = len(labels) if labels is not None else (count or 0)
    return Conditions(
        label=None if labels is None else _checked_labels(labels, num_classes),
        text=text,
        negative_text=negative_text,
        control=_control_batch(request, control_names, rows, controls),
    )


def _checked_labels(labels: Sequence[int], num_classes: int) -> torch.Tensor:
    unknown = sorted({label for label in labels if not 0 <= label < num_classes})
    if unknown:
        raise ValueError(f"unknown labels {unknown}; the model knows 0 to {num_classes - 1}")
    return torch.tensor(list(labels), dtype=torch.long)


def _control_batch(
    request: ControlRequest,
    names: Collection[str],
    rows: int,
    controls: Sequence[Control] | None,
) -> ControlBatch:
    if (request.ask == "fixed") != (controls is None) or len(controls or ()) not in (0, rows):
        raise ValueError(
            f"sampling.control.ask {request.ask}: controls must "
            + ("be left out" if request.ask == "fixed" else f"be given, one for each of {rows}")
        )
    stacked = stack_controls(controls or [fixed_control(request)])
    unknown = sorted(set(names) - set(stacked))
    if unknown:
        raise ValueError(f"unknown controls {unknown}; there are: {', '.join(stacked)}")
    if request.ask == "fixed":
        _check_effect(request, names)
    return {
        name: value.expand(rows, -1).clone() for name, value in stacked.items() if name in names
    }


def fixed_control(request: ControlRequest) -> Control:
    """The control of a request with ``ask`` fixed."""
    return Control(
        **{name: getattr(request, name) for name in AUGMENTATION_FIELDS},
        original_size=Size(*request.original_size),
        crop_corner=Corner(*request.crop_corner),
        crop_size=Size(*(request.crop_size or request.original_size)),
        flip=request.flip,
    )


def _check_effect(request: ControlRequest, names: Collection[str]) -> None:
    """Refuse a requested value that no input of the model carries."""
    default, unused = ControlRequest(), []
    for field in (entry.name for entry in fields(Control)):
        carriers = {field}
        if field == "original_size" and request.crop_size is None:
            carriers.add("crop_size")
        if getattr(request, field) != getattr(default, field) and not carriers & set(names):
            unused.append(f"{field}={getattr(request, field)}")
    whole_image = request.crop_size is None and {"crop_corner", "crop_size"} <= set(names)
    if whole_image and request.crop_corner != (0, 0):
        raise ValueError(
            f"sampling.control.crop_corner {request.crop_corner} leaves no room for a crop_size "
            "that is the whole image; give sampling.control.crop_size too"
        )
    if unused:
        raise ValueError(
            f"the model is not conditioned on {', '.join(unused)}; leave it at its default "
            f"(the model takes: {', '.join(sorted(names)) or 'no control'})"
        )


def resolve_controls(
    run: LoadedRun,
    request: ControlRequest,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    size: Size | None = None,
) -> list[Control] | None:
    """Resolve one control per sample; None where the request itself names the values.

    clean: the whole image, neither flipped nor augmented. Its side is the largest of the size
    distribution of embedded images, the median shorter side of a custom data set, and the
    resolution for a model without images; of a long bucket no more than control can say.
    training: the control of view v of training image i; the sample's seed draws both. i has the
    class that the sample asks for, since control and class may depend on each other in training.

    A model trained on buckets gets crops in the shape of the samples, and training values of
    images in the bucket of their size, as long as the class has one there.

    Args:
        run: the model.
        request: the kind of control values.
        prompts, seeds: of the samples.
        request: which of them.
        prompts, seeds: of the samples.
        size: size of the samples in pixels; None = the square of the model's resolution.

    Raises:
        ConfigError: training, for a model without images.
        ValueError: no training image has a sample's class.
    """
    if request.ask == "fixed":
        return None
    bucket = _bucket(run, size)
    if request.ask == "clean":
        shape = bucket or SQUARE_SHAPE
        longer = min(LARGEST_SIDE, round(_clean_side(run) * max(shape) / min(shape)))
        return [whole_image(crop_size_of(shape, longer), shape)] * len(seeds)
    source = run.components.train_source
    images_by_class: dict[Prompt, list[int]] = defaultdict(list)
    for index in range(len(source)):
        images_by_class[source.label(index)].append(index)
    if empty := sorted({p for p in prompts if isinstance(p, int) and not images_by_class[p]}):
        raise ValueError(
            "sampling.control.ask training: no training image is of class "
            f"{', '.join(run.class_names[label] for label in empty)}, so there are no control "
            "values to draw; leave these classes out, or use sampling.control.ask clean or fixed"
        )
    all_images = _in_bucket(source, bucket, list(range(len(source))))
    images_by_class = {
        label: _in_bucket(source, bucket, images) for label, images in images_by_class.items()
    }
    return [
        _training_control(
            source,
            all_images if isinstance(prompt, str) else images_by_class[prompt],
            seed,
            bucket,
        )
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]


def _bucket(run: LoadedRun, size: Size | None) -> Size | None:
    """Size of the training views for samples of a size; None = there is only one size."""
    if not has_buckets(run.recipe.data):
        return None
    side = run.recipe.data.resolution
    return size or Size(side, side)


def _clean_side(run: LoadedRun) -> int:
    data = run.recipe.data
    if isinstance(data, NoDataConfig):
        return data.resolution
    if isinstance(data, OpenMojiConfig | ShapesConfig):
        return data.size_law.largest
    return run.components.probe_side


def _in_bucket(source: ImageSource, bucket: Size | None, images: list[int]) -> list[int]:
    """Those of the images that a bucket holds; all of them where it holds none."""
    if bucket is None:
        return images
    sizes = ((index, source.config.view_size(source.original_size(index))) for index in images)
    return [index for index, size in sizes if size == bucket] or images


def _training_control(
    source: ImageSource, images: list[int], seed: int, size: Size | None
) -> Control:
    """Control of a view of one of the images; the seed picks both."""
    position, view = uniform((2,), "sample", seed, "control").tolist()
    index = images[int(position * len(images))]
    return view_control(source, index, int(view * source.config.views), size)

# SPDX-License-Identifier: Apache-2.0
"""Control values of samples where the request leaves them to the data."""

from collections import defaultdict
from collections.abc import Sequence

from pippin.control import Control, Size
from pippin.data.config import NoDataConfig, OpenMojiConfig, ShapesConfig, has_buckets
from pippin.data.crop import SQUARE_SHAPE, crop_size_of, whole_image
from pippin.data.source import ImageSource
from pippin.data.views import view_control
from pippin.rng import uniform
from pippin.run.load import LoadedRun
from pippin.sampling.config import ControlRequest
from pippin.types import Prompt


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
    resolution for a model without images.
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
        longer = round(_clean_side(run) * max(shape) / min(shape))
        return [whole_image(crop_size_of(shape, longer), shape)] * len(seeds)
    source = run.parts.train_source
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
    return run.parts.probe_side


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

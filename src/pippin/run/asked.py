# SPDX-License-Identifier: Apache-2.0
"""Which control values a sample asks for where its recipe leaves that to the data."""

from collections import defaultdict
from collections.abc import Sequence

from pippin.control import Control, Size
from pippin.data.config import NoDataConfig, OpenMojiConfig, ShapesConfig, has_buckets
from pippin.data.crop import SQUARE, crop_of, whole_image
from pippin.data.source import PictureSource
from pippin.data.views import view_control
from pippin.rng import uniform
from pippin.run.load import LoadedRun
from pippin.sampling.config import ControlRequest
from pippin.types import Prompt


def asked_controls(
    run: LoadedRun,
    request: ControlRequest,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    size: Size | None = None,
) -> list[Control] | None:
    """One control a sample; None where the request itself names the values.

    clean: the whole picture, unflipped and untouched, at the largest side of the embedded
    pictures' law, at the median shorter side of own ones, at the resolution without pictures.
    training: of view v of training picture i, both drawn by the sample's seed; i has the sample's
    class where it asks for one, since control and class may depend on each other in training.

    A model of buckets is asked for crops in the shape of the samples, and for the training values
    of pictures in the bucket of their size, as long as the class has one there.

    Args:
        run: the model.
        request: which of them.
        prompts, seeds: of the samples.
        size: of the samples in pixels; None = the square of the model's resolution.

    Raises:
        ConfigError: training, for a model that brought no pictures.
        ValueError: no training picture is of a sample's class.
    """
    if request.ask == "fixed":
        return None
    bucket = _bucket(run, size)
    if request.ask == "clean":
        shape = bucket or SQUARE
        longer = round(_clean_side(run) * max(shape) / min(shape))
        return [whole_image(crop_of(shape, longer), shape)] * len(seeds)
    source = run.parts.train_source
    of_class: dict[Prompt, list[int]] = defaultdict(list)
    for index in range(len(source)):
        of_class[source.label(index)].append(index)
    if empty := sorted({p for p in prompts if isinstance(p, int) and not of_class[p]}):
        raise ValueError(
            "sampling.control.ask training: no training picture is of class "
            f"{', '.join(run.class_names[one] for one in empty)}, so there is no law to draw "
            "from; leave these classes out, or use sampling.control.ask clean or fixed"
        )
    every = _in_bucket(source, bucket, list(range(len(source))))
    of_class = {one: _in_bucket(source, bucket, mine) for one, mine in of_class.items()}
    return [
        _training_control(
            source, every if isinstance(prompt, str) else of_class[prompt], seed, bucket
        )
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]


def _bucket(run: LoadedRun, size: Size | None) -> Size | None:
    """The size of views that samples of some size are asked for as; None = the only one."""
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


def _in_bucket(source: PictureSource, bucket: Size | None, pictures: list[int]) -> list[int]:
    """Those of the pictures that are trained on at a size; all where none is."""
    if bucket is None:
        return pictures
    sizes = ((one, source.config.view_size(source.original_size(one))) for one in pictures)
    return [one for one, size in sizes if size == bucket] or pictures


def _training_control(
    source: PictureSource, pictures: list[int], seed: int, size: Size | None
) -> Control:
    """That of a view which the seed picks among some pictures."""
    place, view = uniform((2,), "sample", seed, "control").tolist()
    index = pictures[int(place * len(pictures))]
    return view_control(source, index, int(view * source.config.views), size)

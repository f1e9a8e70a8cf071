# SPDX-License-Identifier: Apache-2.0
"""Which control values a sample asks for where its recipe leaves that to the data."""

from collections import defaultdict
from collections.abc import Sequence

from pippin.control import Control, Size
from pippin.data.config import NoDataConfig, OpenMojiConfig
from pippin.data.crop import whole_image
from pippin.data.source import PictureSource
from pippin.data.views import view_control
from pippin.rng import uniform
from pippin.run.load import LoadedRun
from pippin.sampling.config import ControlRequest
from pippin.types import Prompt


def asked_controls(
    run: LoadedRun, request: ControlRequest, prompts: Sequence[Prompt], seeds: Sequence[int]
) -> list[Control] | None:
    """One control a sample; None where the request itself names the values.

    clean: the whole picture, unflipped and untouched, at the largest side of the embedded
    pictures' law, at the median shorter side of own ones, at the resolution without pictures.
    training: of view v of training picture i, both drawn by the sample's seed; i has the sample's
    class where it asks for one, since control and class may depend on each other in training.

    Raises:
        ConfigError: training, for a model that brought no pictures.
        ValueError: no training picture is of a sample's class.
    """
    if request.ask == "fixed":
        return None
    if request.ask == "clean":
        side = _clean_side(run)
        return [whole_image(Size(side, side))] * len(seeds)
    source = run.parts.train_source
    of_class: dict[Prompt, list[int]] = defaultdict(list)
    for index in range(len(source)):
        of_class[source.label(index)].append(index)
    every = list(range(len(source)))
    if empty := sorted({p for p in prompts if isinstance(p, int) and not of_class[p]}):
        raise ValueError(
            "sampling.control.ask training: no training picture is of class "
            f"{', '.join(run.class_names[one] for one in empty)}, so there is no law to draw "
            "from; leave these classes out, or use sampling.control.ask clean or fixed"
        )
    return [
        _training_control(source, every if isinstance(prompt, str) else of_class[prompt], seed)
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]


def _clean_side(run: LoadedRun) -> int:
    data = run.recipe.data
    if isinstance(data, NoDataConfig):
        return data.resolution
    if isinstance(data, OpenMojiConfig):
        return data.size_law.largest
    return run.parts.train_source.probe_side


def _training_control(source: PictureSource, pictures: list[int], seed: int) -> Control:
    """That of a view which the seed picks among some pictures."""
    place, view = uniform((2,), "sample", seed, "control").tolist()
    index = pictures[int(place * len(pictures))]
    return view_control(source, index, int(view * source.config.views))

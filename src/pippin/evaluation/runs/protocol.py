# SPDX-License-Identifier: Apache-2.0
"""Protocol that a run's evaluations share: finished parts, seeds, the reference of quality.

With ``evaluation.seed_from_training`` the seeds of samples and of noise depend on the training
seed, so that the intervals of a study over training seeds include evaluation noise; otherwise all
training seeds share them. Arms of one training seed always share them, and splits of the reference
always follow ``evaluation.seed``.

``evaluation.reference`` selects the reference of sample quality, and the real images whose
distance from it is the floor, the level of a perfect model:

- train: the training images. The floor is the held-out images against them.
- validation: the held-out images, as in papers that report against ImageNet's validation set. The
  floor is as many training images as there are samples: real images of the same source, none of
  them in the reference.
- a file of statistics: for the Frechet distances only, since statistics contain no images. All
  other measures, and the floor's images, are as with train.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from pippin.config import fingerprint
from pippin.data.sources.openmoji_table import Split
from pippin.evaluation.config import EvaluationConfig, ReferenceKind
from pippin.evaluation.distances import MIN_FRECHET_IMAGES, compare
from pippin.evaluation.features.extraction import FeatureExtractor, Features
from pippin.evaluation.measure import Measure, Subject
from pippin.evaluation.reference import ReferenceStatistics, check_features, load_statistics
from pippin.recipes.recipe import Recipe
from pippin.rng import permutation
from pippin.system.formats import FORMATS, VERSION, FormatError, check_format
from pippin.system.lines import append_lines, read_lines
from pippin.system.progress import Progress

KIND = "results"
"""Key of :data:`pippin.system.formats.FORMATS`."""


def refuse_newer_results(path: Path) -> None:
    """Refuse a file with lines of a newer version, before lines are added or replaced.

    Raises:
        FormatError: a line has a newer version.
    """
    for values in read_lines(path).objects.values():
        try:
            check_format(KIND, values.get(VERSION), path)
        except FormatError:
            raise
        except ValueError:  # a damaged line, which its readers report
            continue


class Stages:
    """Measures by part, kept in a file until all parts are finished.

    Args:
        path: the file; its lines of another protocol are ignored.
        protocol: all that the measures depend on.

    Raises:
        FormatError: a newer pippin began the evaluation.
    """

    def __init__(self, path: Path, protocol: Mapping[str, Any]) -> None:
        refuse_newer_results(path)
        self.path, self.key = path, fingerprint(protocol)
        self._finished = dict(self._load())

    def measure(self, stage: str, compute: Callable[[], list[Measure]]) -> list[Measure]:
        """The measures of one part: from an interrupted evaluation, or computed now."""
        if stage in self._finished:
            return self._finished[stage]
        measures = compute()
        values = [measure.to_dict() for measure in measures]
        line = {"key": self.key, "stage": stage, "measures": values}
        append_lines(self.path, [{VERSION: FORMATS[KIND], **line}])
        return measures

    def measure_all(
        self, parts: Mapping[str, Callable[[], list[Measure]]], console: Console
    ) -> Iterator[Measure]:
        """The measures of all parts, in order, with progress on the console."""
        with Progress(
            console, "evaluating", total=len(parts), unit="parts", each=True, bar=False
        ) as progress:
            for number, (name, compute) in enumerate(parts.items()):
                progress.update(number, facts=partial(dict, now=name))
                yield from self.measure(name, compute)
            progress.update(len(parts), facts=dict)

    def done(self) -> None:
        """Remove the file once all parts are finished: the next evaluation starts over."""
        self.path.unlink(missing_ok=True)

    def _load(self) -> Iterator[tuple[str, list[Measure]]]:
        """Load complete parts; a part with a damaged line is computed again."""
        for line in read_lines(self.path).objects.values():
            try:
                check_format(KIND, line.get(VERSION), self.path)
                if line["key"] == self.key:
                    yield line["stage"], [_measure(values) for values in line["measures"]]
            except (ValueError, LookupError, TypeError):
                continue


def _measure(values: dict[str, Any]) -> Measure:
    value = math.nan if values["value"] is None else values["value"]
    return Measure(**values | {"value": value})


STRIDE = 10_000_000
"""Distance between the seeds of two training seeds: more than any evaluation uses."""


def noise_seed(recipe: Recipe) -> int:
    """Seed of classes, of the images of pairs and of held-out noise."""
    return recipe.evaluation.seed + _offset(recipe)


def sample_seeds(recipe: Recipe, count: int, start: int = 0) -> range:
    """Seeds of the samples.

    Args:
        recipe: of the run.
        count: number of samples.
        start: first seed, before the offset of the training seed.
    """
    first = _offset(recipe) + start
    return range(first, first + count)


def _offset(recipe: Recipe) -> int:
    return recipe.seed * STRIDE if recipe.evaluation.seed_from_training else 0


Clean = Callable[[Split], Features]
"""Features of the clean views of a split: train or held-out."""


@dataclass(frozen=True, kw_only=True)
class QualityReference:
    """A reference, and the comparison of images with it."""

    kind: ReferenceKind
    images: Features
    floor: Features
    """Features of real images outside the reference."""
    statistics: ReferenceStatistics | None = None
    """For the Frechet distances, in place of those of ``images``."""

    def compare(
        self, generated: Features, config: EvaluationConfig, subject: Subject
    ) -> list[Measure]:
        """Distances of images; their protocol names the reference where it is not train."""
        measures = compare(generated, self.images, config, subject, self.statistics)
        if self.kind == "train":
            return measures
        entry = {"reference": self.kind}
        return [replace(measure, protocol=measure.protocol | entry) for measure in measures]


def quality_reference(
    config: EvaluationConfig, extractor: FeatureExtractor, clean: Clean
) -> QualityReference:
    """The reference of a recipe.

    Args:
        config: selects the reference.
        extractor: features of the samples.
        clean: extracts features; called for the splits that are needed.

    Raises:
        ValueError: too few held-out images, or statistics that are missing or of other features.
    """
    kind = config.reference_kind
    if kind == "validation":
        held_out = clean("held-out")
        check_count(len(held_out), config, extractor.dim)
        train = clean("train")
        order = permutation(len(train), "subset", config.seed, "floor")
        floor = train.subset(order[: config.num_samples].sort().values, train.image_hash)
        return QualityReference(kind=kind, images=held_out, floor=floor)
    statistics = None
    if kind == "file":
        statistics = load_statistics(Path(config.reference))
        check_features(statistics, extractor.name, extractor.fingerprint, extractor.dim)
    return QualityReference(
        kind=kind, images=clean("train"), floor=clean("held-out"), statistics=statistics
    )


def check_count(count: int, config: EvaluationConfig, dim: int) -> None:
    """Refuse too few held-out images for the distances.

    KID needs full subsets, and every image its neighbours. From :data:`MIN_FRECHET_IMAGES` samples
    on, where the Frechet distance is the main measure, the reference's covariance must not be
    singular.

    Args:
        count: number of held-out images.
        config: subsets, neighbours and samples.
        dim: dimension of the features.

    Raises:
        ValueError: the message names both numbers, and what to give.
    """
    needed = {
        config.kid_subset_size: "evaluation.kid_subset_size",
        config.neighbours + 2: "evaluation.neighbours and two",
    }
    if config.num_samples >= MIN_FRECHET_IMAGES:
        needed[dim + 1] = f"one more than the {dim} features, for the Frechet distance"
    minimum = max(needed)
    if count < minimum:
        raise ValueError(
            f"evaluation.reference validation has {count} held-out images, and {minimum} are "
            f"needed ({needed[minimum]}): give more images or a larger data.held_out_share, use "
            "--evaluation.reference train, or give statistics of a validation set that `pippin "
            "reference FOLDER --out FILE.npz` wrote: --evaluation.reference FILE.npz"
        )

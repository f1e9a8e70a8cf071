# SPDX-License-Identifier: Apache-2.0
"""Reference of sample quality, and the real images that show the level of a perfect model.

``evaluation.reference`` selects it:

- train: the training images. The floor is the held-out images against them.
- validation: the held-out images, as in papers that report against ImageNet's validation set. The
  floor is as many training images as there are samples: real images of the same source, none of
  them in the reference.
- a file of statistics: for the Frechet distances only, since statistics contain no images. All
  other measures, and the floor's images, are as with train.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pippin.data.openmoji_table import Split
from pippin.evaluation.config import EvaluationConfig, ReferenceKind
from pippin.evaluation.evaluate import MIN_FRECHET_IMAGES, compare
from pippin.evaluation.features import FeatureExtractor, Features
from pippin.evaluation.measure import Measure, Subject
from pippin.evaluation.reference import ReferenceStatistics, check_features, load_statistics
from pippin.rng import permutation

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

# SPDX-License-Identifier: Apache-2.0
"""Search for the best setting of sampling: on one half of the reference, reported on the other.

The search has its own samples (their seeds begin at :data:`SEARCH_SEEDS`) and its own half of the
reference. The measures at the best setting use other seeds and the other half, because the
smallest of several noisy distances tends to be too small.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor

from pippin.config import fingerprint
from pippin.evaluation.distances import compare, kernel_jackknife, kernel_measure
from pippin.evaluation.features.extraction import FeatureExtractor, Features, extract
from pippin.evaluation.image_meter import ImageMeter
from pippin.evaluation.image_metric import ImageMetric
from pippin.evaluation.measure import Jackknife, Measure
from pippin.evaluation.metric import MetricKind
from pippin.evaluation.metrics.declared.distances import REPORTED_AT_BEST
from pippin.evaluation.runs.protocol import sample_seeds
from pippin.rng import permutation
from pippin.sampling.config import SamplingConfig
from pippin.sampling.load import LoadedRun
from pippin.sampling.sample import draw, sampling_protocol
from pippin.types import Images, Prompt

SEARCH_SEEDS = 1_000_000
CHOSEN = (
    "sampling.guidance.semantic_scale",
    "sampling.guidance.guide_scale",
    "sampling.evaluations_per_image",
    *(f"sampling.{name}" for name in ("guide", "guide_checkpoint", "guide_weights")),
    *(f"guide.{name}" for name in ("sha256", "weights", "images_seen", "recipe")),
)
"""Protocol entries that follow from the selected scale. They are recorded as ``chosen.ENTRY``;
results that differ in these entries can still be compared."""


class SampleSet(NamedTuple):
    """Samples that a candidate is measured by, and the images that they are compared with."""

    prompts: Sequence[Prompt]
    seeds: Sequence[int]
    reference: Features


class SettingSearch:
    """Samples, halves of the reference and protocol of a search over candidates.

    Images are sampled in batches and not kept; an interrupted search starts over.

    Args:
        run: its ``evaluation.scales`` and ``scale_samples`` are settings of every search.
        prompts: of the reported samples; the search uses the first of them.
        extractor, reference: as for :func:`pippin.evaluation.distances.compare`.
        settings: further settings that define the candidates, for the protocol.
        chosen: protocol entries that follow from the selection.
    """

    def __init__(
        self,
        run: LoadedRun,
        prompts: Sequence[Prompt],
        extractor: FeatureExtractor,
        reference: Features,
        *,
        settings: Mapping[str, Any] | None = None,
        chosen: Sequence[str] = CHOSEN,
    ) -> None:
        config, searched = run.recipe.evaluation, prompts[: run.recipe.evaluation.scale_samples]
        search_half, report_half = reference_halves(reference, config.seed)
        self.run, self._extractor, self._chosen = run, extractor, chosen
        self.searched = SampleSet(
            searched, sample_seeds(run.recipe, len(searched), SEARCH_SEEDS), search_half
        )
        self.reported = SampleSet(prompts, sample_seeds(run.recipe, len(prompts)), report_half)
        self.settings: dict[str, Any] = {
            **(settings or {}),
            "scales": list(config.scales),
            "scale_samples": len(searched),
        }

    def kid(self, sampling: SamplingConfig) -> tuple[Measure, Jackknife]:
        """KID of the search's samples under one candidate, with its protocol."""
        reference = self.searched.reference
        features = extract(self._extractor, self._batches(self.searched, sampling))
        jackknife = kernel_jackknife(features, reference)
        kid = kernel_measure(features, reference, jackknife)
        protocol = sampling_protocol(self.run, sampling)
        return replace(kid, protocol=kid.protocol | protocol), jackknife

    def quality(
        self, samples: SampleSet, sampling: SamplingConfig, kinds: Sequence[ImageMetric] = ()
    ) -> list[Measure]:
        """Distances of samples under one candidate, and metrics of their single images.

        Args:
            samples: those of the search, or the reported ones.
            sampling: with the candidate's settings.
            kinds: metrics of single images.
        """
        config, meter = self.run.recipe.evaluation, ImageMeter(kinds)
        features = extract(self._extractor, meter.watch(self._batches(samples, sampling)))
        measures = [
            measure
            for measure in compare(features, samples.reference, config)
            if measure.metric.kind in REPORTED_AT_BEST
        ]
        measures += meter.measures(seed=config.seed)
        protocol = sampling_protocol(self.run, sampling)
        return [replace(measure, protocol=measure.protocol | protocol) for measure in measures]

    def chosen_measure(self, kind: MetricKind, value: float, search: Measure) -> Measure:
        """The selected value, as a measure.

        Args:
            kind: kind of the measure.
            value: a scale, a request or an end of an interval.
            search: a measure of the search, for the protocol.
        """
        protocol = {n: entry for n, entry in search.protocol.items() if n not in self._chosen}
        return Measure.of(kind(), value, n=search.n, protocol=protocol | self.settings)

    def at_best(self, measures: Sequence[Measure], kind: MetricKind) -> list[Measure]:
        """Measures at the selected setting, under a kind's names; the protocol entries that follow
        from the selection become ``chosen.ENTRY``."""
        return [
            replace(
                measure,
                name=kind(of=measure.metric).name,
                protocol=self._rename_chosen(measure.protocol) | self.settings,
            )
            for measure in measures
        ]

    def _rename_chosen(self, protocol: Mapping[str, Any]) -> dict[str, Any]:
        return {f"chosen.{n}" if n in self._chosen else n: value for n, value in protocol.items()}

    def _batches(self, samples: SampleSet, sampling: SamplingConfig) -> Iterator[Images]:
        """Samples, one batch in memory at a time."""
        for start in range(0, len(samples.prompts), sampling.batch_size):
            rows = slice(start, start + sampling.batch_size)
            yield draw(self.run, samples.prompts[rows], samples.seeds[rows], sampling)


def reference_halves(reference: Features, seed: int) -> tuple[Features, Features]:
    """Random halves of a reference: one for the search, one for the reported measures."""
    order = permutation(len(reference), "subset", seed, "halves")
    search_rows, report_rows = order.tensor_split(2)
    return feature_subset(reference, search_rows), feature_subset(reference, report_rows)


def feature_subset(features: Features, rows: Tensor) -> Features:
    """Some rows of a reference, in order, with a hash of their own."""
    rows = rows.sort().values
    name = fingerprint({"of": features.image_hash, "rows": rows.tolist()})
    return features.subset(rows, name)

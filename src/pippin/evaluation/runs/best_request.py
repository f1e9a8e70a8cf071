# SPDX-License-Identifier: Apache-2.0
"""Quality of a model at its best original size, beside the sharpness of its samples.

FD and KID improve where samples are blurred, and the sharpness of a model's samples depends on the
original size that the request names. A comparison at one request therefore favours the model that
this request blurs. Here every model is sampled at several sizes and at every semantic scale of
``evaluation.scales``. FD on one half of the reference, with samples of the search, selects the
best; the reported numbers come from the other half and other samples, as in
:mod:`pippin.evaluation.runs.best_scale`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pippin.evaluation.distances import compare
from pippin.evaluation.features.extraction import FeatureExtractor, Features, extract
from pippin.evaluation.image_meter import ImageMeter
from pippin.evaluation.measure import Measure
from pippin.evaluation.metric import Metric
from pippin.evaluation.metrics.declared.best_setting import (
    AT_BEST_REQUEST,
    BEST_REQUEST,
    BEST_REQUEST_SCALE,
    SEARCH_AT_REQUEST,
    SEARCHED_AT_REQUEST,
)
from pippin.evaluation.metrics.declared.distances import FRECHET_DISTANCES, REPORTED_AT_BEST
from pippin.evaluation.metrics.declared.sharpness import SHARPNESS
from pippin.evaluation.runs.best_scale import (
    CHOSEN,
    SEARCH_SEEDS,
    chosen_measure,
    reference_halves,
    rename_chosen,
    sample_batches,
)
from pippin.evaluation.runs.protocol import sample_seeds
from pippin.sampling.config import ControlRequest, SamplingConfig
from pippin.sampling.load import LoadedRun
from pippin.sampling.sample import sampling_protocol
from pippin.types import Prompt

REQUEST = ("sampling.control.ask", "sampling.control.original_size", *CHOSEN)
"""Protocol entries that follow from the selection."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One request of the search."""

    request: int
    """Original size, the side of a square in pixels."""
    scale: float
    """Semantic guidance."""

    def searched(self, metric: Metric) -> Metric:
        """The metric of samples of the search at this request."""
        return SEARCH_AT_REQUEST(of=metric, request=self.request, at=self.scale)


def best_request_measures(
    run: LoadedRun, prompts: list[Prompt], extractor: FeatureExtractor, reference: Features
) -> list[Measure]:
    """Search the best request and scale, and report quality and sharpness there.

    The measures are ``best request`` and ``best request scale``; FD, KID and sharpness of the
    search at every request and scale; and quality and sharpness at the best pair. A model that
    does not read the original size is searched over scales only.

    Args:
        run: its ``evaluation.requests``, ``scales`` and ``scale_samples`` define the search.
        prompts: of the reported samples; the search uses the first of them.
        extractor, reference: as for :func:`pippin.evaluation.distances.compare`.
    """
    config = run.recipe.evaluation
    search_half, report_half = reference_halves(reference, config.seed)
    seeds = sample_seeds(run.recipe, config.scale_samples, SEARCH_SEEDS)
    search, distances = [], {}
    for candidate in candidates(run):
        measures = _measured(run, prompts[: len(seeds)], seeds, candidate, extractor, search_half)
        distances[candidate] = next(
            m.value for m in measures if m.metric.kind in FRECHET_DISTANCES
        )
        search += [
            replace(m, name=candidate.searched(m.metric).name)
            for m in measures
            if m.metric.kind in SEARCHED_AT_REQUEST
        ]
    best = min(distances, key=lambda candidate: distances[candidate])
    settings = {
        "requests": list(config.requests),
        "scales": list(config.scales),
        "scale_samples": len(seeds),
    }
    report_seeds = sample_seeds(run.recipe, len(prompts))
    at_best = _measured(run, prompts, report_seeds, best, extractor, report_half)
    return [
        chosen_measure(BEST_REQUEST, float(best.request), search[0], settings, REQUEST),
        chosen_measure(BEST_REQUEST_SCALE, float(best.scale), search[0], settings, REQUEST),
        *search,
        *(
            replace(
                m,
                name=AT_BEST_REQUEST(of=m.metric).name,
                protocol=rename_chosen(m.protocol, REQUEST) | settings,
            )
            for m in at_best
        ),
    ]


def candidates(run: LoadedRun) -> list[Candidate]:
    """Every request with every scale; only the largest request where the size is not read."""
    config = run.recipe.evaluation
    reads_size = "original_size" in run.read_names
    requests = config.requests if reads_size else (max(config.requests),)
    scales = config.scales or (run.recipe.sampling.scale,)
    return [Candidate(request=size, scale=scale) for size in requests for scale in scales]


def at_request(sampling: SamplingConfig, candidate: Candidate) -> SamplingConfig:
    """The sampling with a request for a whole image of another original size."""
    before = sampling.control if sampling.control.ask == "fixed" else ControlRequest()
    side = (candidate.request, candidate.request)
    control = replace(before, original_size=side, crop_corner=(0, 0), crop_size=None)
    return replace(sampling, control=control).at_scale(candidate.scale)


def sampling_of(run: LoadedRun, candidate: Candidate) -> SamplingConfig:
    """The run's sampling at a candidate; only its scale for a model that reads no size."""
    if "original_size" in run.read_names:
        return at_request(run.recipe.sampling, candidate)
    return run.recipe.sampling.at_scale(candidate.scale)


def _measured(
    run: LoadedRun,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    candidate: Candidate,
    extractor: FeatureExtractor,
    reference: Features,
) -> list[Measure]:
    """Quality and sharpness of samples of one request."""
    sampling, meter = sampling_of(run, candidate), ImageMeter((SHARPNESS,))
    images: Iterator[Any] = meter.watch(sample_batches(run, prompts, seeds, sampling))
    features = extract(extractor, images)
    protocol = sampling_protocol(run, sampling)
    measures = [
        measure
        for measure in compare(features, reference, run.recipe.evaluation)
        if measure.metric.kind in REPORTED_AT_BEST
    ]
    measures += meter.measures(seed=run.recipe.evaluation.seed)
    return [replace(measure, protocol=measure.protocol | protocol) for measure in measures]

# SPDX-License-Identifier: Apache-2.0
"""Quality of a model at its best original size, beside the sharpness of its samples.

FD and KID improve where samples are blurred, and the sharpness of a model's samples depends on the
original size that the request names. A comparison at one request therefore favours the model that
this request blurs. Here every model is sampled at several sizes and at every semantic scale of
``evaluation.scales``. FD on one half of the reference, with samples of the search, selects the
best; the reported numbers come from the other half and other samples.
"""

from dataclasses import dataclass, replace

from pippin.evaluation.features.extraction import FeatureExtractor, Features
from pippin.evaluation.measure import Measure
from pippin.evaluation.metric import Metric
from pippin.evaluation.metrics.declared.best_setting import (
    AT_BEST_REQUEST,
    BEST_REQUEST,
    BEST_REQUEST_SCALE,
    SEARCH_AT_REQUEST,
    SEARCHED_AT_REQUEST,
)
from pippin.evaluation.metrics.declared.distances import FRECHET_DISTANCES
from pippin.evaluation.metrics.declared.sharpness import SHARPNESS
from pippin.evaluation.runs.setting_search import CHOSEN, SettingSearch
from pippin.sampling.config import ControlRequest, SamplingConfig
from pippin.sampling.load import LoadedRun
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
        prompts, extractor, reference: as for
            :class:`pippin.evaluation.runs.setting_search.SettingSearch`.
    """
    settings = {"requests": list(run.recipe.evaluation.requests)}
    search = SettingSearch(run, prompts, extractor, reference, settings=settings, chosen=REQUEST)
    measures: list[Measure] = []
    distances: dict[Candidate, float] = {}
    for candidate in candidates(run):
        quality = search.quality(search.searched, sampling_of(run, candidate), [SHARPNESS])
        distances[candidate] = next(m.value for m in quality if m.metric.kind in FRECHET_DISTANCES)
        measures += [
            replace(m, name=candidate.searched(m.metric).name)
            for m in quality
            if m.metric.kind in SEARCHED_AT_REQUEST
        ]
    best = min(distances, key=lambda candidate: distances[candidate])
    at_best = search.quality(search.reported, sampling_of(run, best), [SHARPNESS])
    return [
        search.chosen_measure(BEST_REQUEST, float(best.request), measures[0]),
        search.chosen_measure(BEST_REQUEST_SCALE, float(best.scale), measures[0]),
        *measures,
        *search.at_best(at_best, AT_BEST_REQUEST),
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

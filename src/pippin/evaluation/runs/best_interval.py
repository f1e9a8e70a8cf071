# SPDX-License-Identifier: Apache-2.0
"""Best interval of guidance in log-SNR: searched on half of the reference, reported on the other.

Guidance inside an interval of noise levels costs fewer evaluations and may give better images than
everywhere (Kynkäänniemi et al. 2024, arXiv 2404.07724). The best scale inside an interval is often
higher, so every interval of ``evaluation.intervals`` is searched at every scale of
``evaluation.scales``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pippin.evaluation.features.extraction import FeatureExtractor, Features
from pippin.evaluation.measure import Measure
from pippin.evaluation.metrics.declared.best_setting import (
    AT_BEST_INTERVAL,
    BEST_INTERVAL_HIGH,
    BEST_INTERVAL_LOW,
    BEST_INTERVAL_SCALE,
    SEARCH_AT_INTERVAL,
)
from pippin.evaluation.runs.setting_search import CHOSEN, SettingSearch
from pippin.sampling.config import SamplingConfig
from pippin.sampling.load import LoadedRun
from pippin.types import Prompt

CHOSEN_WITH_INTERVAL = ("sampling.guidance.log_snr_interval", *CHOSEN)
"""Protocol entries that follow from the selection."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One guidance of the search."""

    low: float
    """Noisy end of the interval, in log-SNR."""
    high: float
    scale: float

    def sampling(self, sampling: SamplingConfig) -> SamplingConfig:
        """The sampling with this guidance."""
        scaled = sampling.at_scale(self.scale)
        interval = (self.low, self.high)
        return replace(scaled, guidance=replace(scaled.guidance, log_snr_interval=interval))


def best_interval_measures(
    run: LoadedRun, prompts: list[Prompt], extractor: FeatureExtractor, reference: Features
) -> list[Measure]:
    """Search the best interval and scale of guidance, and report quality there.

    The measures are ``best interval low``, ``best interval high`` and ``best interval scale``; KID
    of the search at every interval and scale; and quality at the best pair.

    Args:
        run: its ``evaluation.intervals``, ``scales`` and ``scale_samples`` define the search.
        prompts, extractor, reference: as for
            :class:`pippin.evaluation.runs.setting_search.SettingSearch`.
    """
    sampling = run.recipe.sampling
    intervals = [list(interval) for interval in run.recipe.evaluation.intervals]
    search = SettingSearch(
        run,
        prompts,
        extractor,
        reference,
        settings={"intervals": intervals},
        chosen=CHOSEN_WITH_INTERVAL,
    )
    kids: dict[Candidate, Measure] = {}
    for candidate in candidates(run):
        kid, _ = search.kid(candidate.sampling(sampling))
        at = {"low": candidate.low, "high": candidate.high, "at": candidate.scale}
        kids[candidate] = replace(kid, name=SEARCH_AT_INTERVAL(of=kid.metric, **at).name)
    best = min(kids, key=lambda candidate: kids[candidate].value)
    chosen = {
        BEST_INTERVAL_LOW: best.low,
        BEST_INTERVAL_HIGH: best.high,
        BEST_INTERVAL_SCALE: best.scale,
    }
    at_best = search.quality(search.reported, best.sampling(sampling))
    return [
        *(search.chosen_measure(kind, value, kids[best]) for kind, value in chosen.items()),
        *kids.values(),
        *search.at_best(at_best, AT_BEST_INTERVAL),
    ]


def candidates(run: LoadedRun) -> Iterator[Candidate]:
    """Every interval with every scale but 1, which has no guidance to limit."""
    config = run.recipe.evaluation
    for low, high in config.intervals:
        for scale in config.scales or (run.recipe.sampling.scale,):
            if scale != 1:
                yield Candidate(low=low, high=high, scale=scale)

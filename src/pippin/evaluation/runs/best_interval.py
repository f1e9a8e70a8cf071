# SPDX-License-Identifier: Apache-2.0
"""Best interval of guidance in log-SNR: searched on half of the reference, reported on the other.

Guidance inside an interval of noise levels costs fewer evaluations and may give better images than
everywhere (Kynkäänniemi et al. 2024, arXiv 2404.07724). The best scale inside an interval is often
higher, so every interval of ``evaluation.intervals`` is searched at every scale of
``evaluation.scales``. Samples, seeds, halves and statistics are those of
:mod:`pippin.evaluation.runs.best_scale`.
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
from pippin.evaluation.runs.best_scale import (
    CHOSEN,
    SEARCH_SEEDS,
    chosen_measure,
    quality_at,
    reference_halves,
    rename_chosen,
    searched_kid,
)
from pippin.evaluation.runs.protocol import sample_seeds
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
        prompts: of the reported samples; the search uses the first of them.
        extractor, reference: as for :func:`pippin.evaluation.distances.compare`.
    """
    config, sampling = run.recipe.evaluation, run.recipe.sampling
    search_half, report_half = reference_halves(reference, config.seed)
    searched = prompts[: config.scale_samples]
    seeds = sample_seeds(run.recipe, len(searched), SEARCH_SEEDS)
    search: dict[Candidate, Measure] = {}
    for candidate in candidates(run):
        drawn = candidate.sampling(sampling)
        kid, _ = searched_kid(run, searched, seeds, drawn, extractor, search_half)
        at = {"low": candidate.low, "high": candidate.high, "at": candidate.scale}
        search[candidate] = replace(kid, name=SEARCH_AT_INTERVAL(of=kid.metric, **at).name)
    best = min(search, key=lambda candidate: search[candidate].value)
    settings = {
        "intervals": [list(interval) for interval in config.intervals],
        "scales": list(config.scales),
        "scale_samples": len(searched),
    }
    chosen = {
        BEST_INTERVAL_LOW: best.low,
        BEST_INTERVAL_HIGH: best.high,
        BEST_INTERVAL_SCALE: best.scale,
    }
    at_best = quality_at(run, prompts, best.sampling(sampling), extractor, report_half)
    return [
        *(
            chosen_measure(kind, value, search[best], settings, CHOSEN_WITH_INTERVAL)
            for kind, value in chosen.items()
        ),
        *search.values(),
        *(
            replace(
                measure,
                name=AT_BEST_INTERVAL(of=measure.metric).name,
                protocol=rename_chosen(measure.protocol, CHOSEN_WITH_INTERVAL) | settings,
            )
            for measure in at_best
        ),
    ]


def candidates(run: LoadedRun) -> Iterator[Candidate]:
    """Every interval with every scale but 1, which has no guidance to limit."""
    config = run.recipe.evaluation
    for low, high in config.intervals:
        for scale in config.scales or (run.recipe.sampling.scale,):
            if scale != 1:
                yield Candidate(low=low, high=high, scale=scale)

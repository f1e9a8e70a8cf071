# SPDX-License-Identifier: Apache-2.0
"""The best semantic scale of a model, found on one half of everything and measured on the other.

Which scale is best differs from model to model, so a comparison at one scale favours the model
that happens to fit it. The search has its own samples (their seeds begin at :data:`SEARCH_SEEDS`)
and its own half of the reference; what is reported at the best scale, and at 1 beside it, has the
seeds and the half that the search never saw.
"""

from dataclasses import replace
from typing import Any

from torch import Tensor

from pippin.config import fingerprint
from pippin.evaluation.evaluate import compare
from pippin.evaluation.features import FeatureExtractor, Features, extract
from pippin.evaluation.measure import Measure
from pippin.rng import permutation
from pippin.run.load import LoadedRun
from pippin.run.sample import draw, sampling_protocol
from pippin.sampling.config import SamplingConfig
from pippin.types import Prompt

SEARCH_SEEDS = 1_000_000
REPORTED = ("KID-", "FD-", "coverage", "precision", "recall")
"""Beginnings of the measures that are reported."""


def best_scale_measures(
    run: LoadedRun, prompts: list[Prompt], extractor: FeatureExtractor, reference: Features
) -> list[Measure]:
    """``best semantic scale``; KID of the search at every scale; quality at the best one and at 1.

    Args:
        run: ``evaluation.scales`` and ``scale_samples`` of its recipe say what is searched.
        prompts: of the reported samples; the search takes the first of them.
        extractor, reference: as for the distances of :func:`pippin.evaluation.evaluate.compare`.
    """
    config = run.recipe.evaluation
    order = permutation(len(reference), "subset", config.seed, "halves")
    ours, theirs = (_part(reference, rows) for rows in order.tensor_split(2))
    searched = prompts[: config.scale_samples]
    seeds = range(SEARCH_SEEDS, SEARCH_SEEDS + len(searched))
    measures, found = [], {}
    for scale in config.scales:
        sampling = _at(run, scale)
        features = extract(extractor, [draw(run, searched, seeds, sampling)])
        kid = compare(features, ours, config)[0]
        found[scale] = kid.value
        measures.append(_named(kid, f"search {kid.name} at scale {scale:g}", run, sampling))
    best = min(found, key=lambda scale: found[scale])
    searched_by = {"scales": list(config.scales), "scale_samples": len(searched)}
    chosen = Measure(
        name="best semantic scale",
        value=best,
        low=None,
        high=None,
        interval_over="none",
        n=len(searched),
        unit="",
        better="neither",
        protocol=measures[0].protocol | searched_by,
    )
    for scale, place in ((best, "best scale"), (1.0, "scale 1")):
        sampling = _at(run, scale)
        images = draw(run, prompts, range(len(prompts)), sampling)
        quality = compare(extract(extractor, [images]), theirs, config)
        measures += [
            _named(one, f"{one.name} at {place}", run, sampling, searched_by)
            for one in quality
            if one.name.startswith(REPORTED) and not one.name.endswith("subsets")
        ]
    return [chosen, *measures]


def _at(run: LoadedRun, scale: float) -> SamplingConfig:
    sampling = run.recipe.sampling
    return replace(sampling, guidance=replace(sampling.guidance, semantic_scale=scale))


def _part(features: Features, rows: Tensor) -> Features:
    kept = rows.sort().values
    name = fingerprint({"of": features.image_hash, "rows": kept.tolist()})
    return replace(features, values=features.values[kept], image_hash=name)


def _named(
    measure: Measure,
    name: str,
    run: LoadedRun,
    sampling: SamplingConfig,
    extra: dict[str, Any] | None = None,
) -> Measure:
    content = sampling_protocol(run, sampling) | (extra or {})
    return replace(measure, name=name, protocol=measure.protocol | content)

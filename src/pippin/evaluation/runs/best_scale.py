# SPDX-License-Identifier: Apache-2.0
"""Best guidance scale of a model: searched on half of the reference, reported on the other half.

The best scale differs from model to model, so a comparison at one scale favours the model that it
happens to fit. The search has its own samples (their seeds begin at :data:`SEARCH_SEEDS`) and its
own half of the reference. The measures at the best scale, and at scale 1 beside it, use other
seeds and the other half.

The best of a few evaluated scales is only as precise as their spacing. A parabola fitted to the
distances at all of them has its vertex anywhere between them, and resampling the images gives an
interval. A rule for scales (lambda' = 1 + s (lambda - 1), Berrada et al. 2024) can be tested on
this estimate.

The scale is the semantic one, or that of autoguidance where a weaker model guides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from pippin.config import fingerprint
from pippin.evaluation.distances import compare, kernel_jackknife, kernel_measure
from pippin.evaluation.features.extraction import FeatureExtractor, Features, extract
from pippin.evaluation.measure import RESAMPLES, Jackknife, Measure, percentile_interval
from pippin.evaluation.metric import MetricKind
from pippin.evaluation.metrics.declared.best_setting import (
    AT_BEST_SCALE,
    AT_SCALE_ONE,
    BEST_GUIDE_SCALE,
    BEST_SCALE,
    FITTED_GUIDANCE,
    FITTED_GUIDE_SCALE,
    FITTED_SCALE,
    SEARCH_AT_SCALE,
)
from pippin.evaluation.metrics.declared.distances import REPORTED_AT_BEST
from pippin.evaluation.runs.protocol import sample_seeds
from pippin.recipes.recipe import Recipe
from pippin.rng import generator, permutation
from pippin.sampling.config import SamplingConfig
from pippin.sampling.load import LoadedRun
from pippin.sampling.sample import draw, sampling_protocol
from pippin.types import Images, Prompt

MIN_SCALES = 5
"""Smallest number of scales of a fit."""


def fitted_scale(
    scales: Sequence[float], distances: Sequence[Jackknife], *, seed: int
) -> tuple[float, float, float] | None:
    """Vertex of the least-squares parabola, and its 95 % interval over samples.

    The interval is a bootstrap over images, the same images at every scale, of their jackknife
    pseudo-values n T - (n - 1) T_i, whose mean is the statistic up to a term of order 1/n. (A
    bootstrap of the images themselves would count a repeated image as its own neighbour.) A
    resample whose parabola opens downward, or whose vertex lies outside the scales, counts as the
    end of the scales towards which its distances fall.

    Args:
        scales: distinct, five or more.
        distances: one per scale, over the same images in the same order.
        seed: seed of the bootstrap.

    Returns:
        (value, low, high); None if the distances have no minimum inside the scales.

    Raises:
        ValueError: fewer than five scales, or samples that do not pair up.
    """
    counts = {len(jackknife.leave_one_out) for jackknife in distances}
    if len(scales) < MIN_SCALES or len(scales) != len(distances) or len(counts) != 1:
        raise ValueError(
            f"a fit needs the distances at {MIN_SCALES} scales or more over equally many images; "
            f"got {len(scales)} scales and {len(distances)} distances over {sorted(counts)} images"
        )
    scale_values = torch.tensor(scales, dtype=torch.float64)
    values = torch.tensor([jackknife.value for jackknife in distances], dtype=torch.float64)
    leave_one_out = torch.stack(
        [jackknife.leave_one_out.double() for jackknife in distances], 1
    )  # (images, scales)
    n = len(leave_one_out)
    pseudo = n * values - (n - 1) * leave_one_out
    resampling = generator("subset", seed, "bootstrap", "fitted scale")
    resampled = torch.stack(
        [
            pseudo[torch.randint(n, (n,), generator=resampling)].mean(0) - pseudo.mean(0) + values
            for _ in range(RESAMPLES)
        ]
    )
    value = float(_vertices(scale_values, values[None]))
    if not scale_values.min() < value < scale_values.max():
        return None
    low, high = percentile_interval(_vertices(scale_values, resampled))
    return value, low, high


def _vertices(
    scales: Float64[Tensor, " scales"], distances: Float64[Tensor, "curves scales"]
) -> Float64[Tensor, " curves"]:
    """Scale of the minimum of each curve's parabola between the first and the last scale."""
    middle_scale = scales.mean()
    x = scales - middle_scale
    terms = torch.stack([torch.ones_like(x), x, x.square()], 1)
    _, slope, bend = (torch.linalg.pinv(terms) @ distances.T).unbind()  # each (curves,)
    ends = torch.where(slope < 0, x.max(), x.min())
    vertex = torch.where(bend > 0, -slope / (2 * bend), ends)
    return middle_scale + vertex.clamp(x.min(), x.max())


SEARCH_SEEDS = 1_000_000
SIDE = 64
"""Pixels; the usual side of the embedded images."""
CHOSEN = (
    "sampling.guidance.semantic_scale",
    "sampling.guidance.guide_scale",
    "sampling.evaluations_per_image",
    *(f"sampling.{name}" for name in ("guide", "guide_checkpoint", "guide_weights")),
    *(f"guide.{name}" for name in ("sha256", "weights", "images_seen", "recipe")),
)
"""Protocol entries that follow from the selected scale. They are recorded as ``chosen.ENTRY``;
results that differ in these entries can still be compared."""


def best_scale_measures(
    run: LoadedRun, prompts: list[Prompt], extractor: FeatureExtractor, reference: Features
) -> list[Measure]:
    """Search the best scale of guidance, and report quality at this scale and at 1.

    The measures are ``best semantic scale``, or ``best guide scale`` of autoguidance; KID of the
    search at every scale; and quality at the best scale and at 1. From five scales on, where KID
    has a minimum inside them, there are also ``fitted semantic scale`` and ``fitted guidance per
    64 px``, or ``fitted guide scale``: the vertex of a parabola through the KIDs of the search.

    Images are sampled in batches and not kept; an interrupted search starts over.

    Args:
        run: its ``evaluation.scales`` and ``scale_samples`` define the search.
        prompts: of the reported samples; the search uses the first of them.
        extractor, reference: as for the distances of :func:`pippin.evaluation.distances.compare`.
    """
    config = run.recipe.evaluation
    search_half, report_half = reference_halves(reference, config.seed)
    searched = prompts[: config.scale_samples]
    seeds = sample_seeds(run.recipe, len(searched), SEARCH_SEEDS)
    search: list[Measure] = []
    kids: dict[float, Jackknife] = {}
    sampling = run.recipe.sampling
    for scale in config.scales:
        drawn = sampling.at_scale(scale)
        kid, kids[scale] = searched_kid(run, searched, seeds, drawn, extractor, search_half)
        search.append(replace(kid, name=SEARCH_AT_SCALE(of=kid.metric, at=scale).name))
    best = min(kids, key=lambda scale: kids[scale].value)
    settings = {"scales": list(config.scales), "scale_samples": len(searched)}
    at_best = quality_at(run, prompts, sampling.at_scale(best), extractor, report_half)
    at_one = at_best
    if best != 1:
        at_one = quality_at(run, prompts, sampling.at_scale(1.0), extractor, report_half)
    kind = BEST_GUIDE_SCALE if sampling.autoguided else BEST_SCALE
    return [
        chosen_measure(kind, best, search[0], settings),
        *_fitted(kids, search[0], run.recipe, settings),
        *search,
        *(_named(m, AT_BEST_SCALE, rename_chosen(m.protocol) | settings) for m in at_best),
        *(_named(m, AT_SCALE_ONE, m.protocol | settings) for m in at_one),
    ]


def searched_kid(
    run: LoadedRun,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    sampling: SamplingConfig,
    extractor: FeatureExtractor,
    reference: Features,
) -> tuple[Measure, Jackknife]:
    """KID of the samples of one candidate of a search, with its protocol."""
    features = extract(extractor, sample_batches(run, prompts, seeds, sampling))
    jackknife = kernel_jackknife(features, reference)
    kid = kernel_measure(features, reference, jackknife)
    return replace(kid, protocol=kid.protocol | sampling_protocol(run, sampling)), jackknife


def sample_batches(
    run: LoadedRun, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: SamplingConfig
) -> Iterator[Images]:
    """Samples, one batch in memory at a time."""
    for start in range(0, len(prompts), sampling.batch_size):
        rows = slice(start, start + sampling.batch_size)
        yield draw(run, prompts[rows], seeds[rows], sampling)


def quality_at(
    run: LoadedRun,
    prompts: list[Prompt],
    sampling: SamplingConfig,
    extractor: FeatureExtractor,
    reference: Features,
) -> list[Measure]:
    """Quality of the reported samples under a selected sampling configuration."""
    images = sample_batches(run, prompts, sample_seeds(run.recipe, len(prompts)), sampling)
    protocol = sampling_protocol(run, sampling)
    return [
        replace(measure, protocol=measure.protocol | protocol)
        for measure in compare(extract(extractor, images), reference, run.recipe.evaluation)
        if measure.metric.kind in REPORTED_AT_BEST
    ]


def chosen_measure(
    kind: MetricKind,
    value: float,
    search: Measure,
    settings: dict[str, Any],
    chosen: Sequence[str] = CHOSEN,
) -> Measure:
    """The selected value, as a measure.

    Args:
        kind: kind of the measure.
        value: a scale or a request.
        search: a measure of the search.
        settings: of the search, for the protocol.
        chosen: protocol entries that follow from the selection.
    """
    protocol = {name: entry for name, entry in search.protocol.items() if name not in chosen}
    return Measure.of(kind(), value, n=search.n, protocol=protocol | settings)


def _fitted(
    kids: dict[float, Jackknife], search: Measure, recipe: Recipe, settings: dict[str, Any]
) -> list[Measure]:
    """The vertex, and its distance above 1 for every 64 pixels of the resolution: under the rule
    of :func:`pippin.sampling.guidance.scale_at_resolution` the latter is the same everywhere."""
    seed = recipe.evaluation.seed
    if len(kids) < MIN_SCALES:
        return []
    vertex = fitted_scale(tuple(kids), tuple(kids.values()), seed=seed)
    if vertex is None:
        return []
    chosen = chosen_measure(BEST_SCALE, 0.0, search, settings | {"seed": seed})
    # The reference follows from the data's resolution, which the protocol holds already: scales,
    # unlike distances, are compared between resolutions.
    del chosen.protocol["reference_hash"]
    per_side = [(value - 1) * SIDE / recipe.data.resolution for value in vertex]
    fits = {FITTED_SCALE: vertex, FITTED_GUIDANCE: per_side}
    if recipe.sampling.autoguided:  # the law is one of classifier-free guidance
        fits = {FITTED_GUIDE_SCALE: vertex}
    return [
        replace(chosen, name=kind.name, value=value, low=low, high=high, interval_over="samples")
        for kind, (value, low, high) in fits.items()
    ]


def rename_chosen(protocol: dict[str, Any], chosen: Sequence[str] = CHOSEN) -> dict[str, Any]:
    """Record the entries that follow from the selection as ``chosen.ENTRY``."""
    return {f"chosen.{n}" if n in chosen else n: value for n, value in protocol.items()}


def _named(measure: Measure, place: MetricKind, protocol: dict[str, Any]) -> Measure:
    return replace(measure, name=place(of=measure.metric).name, protocol=protocol)


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

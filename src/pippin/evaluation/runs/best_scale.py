# SPDX-License-Identifier: Apache-2.0
"""Best guidance scale of a model: searched on half of the reference, reported on the other half.

The best scale differs from model to model, so a comparison at one scale favours the model that it
happens to fit. Quality is reported at the best scale, and at scale 1 beside it.

The best of a few evaluated scales is only as precise as their spacing. A parabola fitted to the
distances at all of them has its vertex anywhere between them, and resampling the images gives an
interval. A rule for scales (lambda' = 1 + s (lambda - 1), Berrada et al. 2024) can be tested on
this estimate.

The scale is the semantic one, or that of autoguidance where a weaker model guides.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float64
from torch import Tensor

from pippin.evaluation.features.extraction import FeatureExtractor, Features
from pippin.evaluation.measure import RESAMPLES, Jackknife, Measure, percentile_interval
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
from pippin.evaluation.runs.setting_search import SettingSearch
from pippin.rng import generator
from pippin.sampling.load import LoadedRun
from pippin.types import Prompt

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


SIDE = 64
"""Pixels; the usual side of the embedded images."""


def best_scale_measures(
    run: LoadedRun, prompts: list[Prompt], extractor: FeatureExtractor, reference: Features
) -> list[Measure]:
    """Search the best scale of guidance, and report quality at this scale and at 1.

    The measures are ``best semantic scale``, or ``best guide scale`` of autoguidance; KID of the
    search at every scale; and quality at the best scale and at 1. From five scales on, where KID
    has a minimum inside them, there are also ``fitted semantic scale`` and ``fitted guidance per
    64 px``, or ``fitted guide scale``: the vertex of a parabola through the KIDs of the search.

    Args:
        run: its ``evaluation.scales`` and ``scale_samples`` define the search.
        prompts, extractor, reference: as for
            :class:`pippin.evaluation.runs.setting_search.SettingSearch`.
    """
    sampling = run.recipe.sampling
    search = SettingSearch(run, prompts, extractor, reference)
    kids: dict[float, Jackknife] = {}
    measures: list[Measure] = []
    for scale in run.recipe.evaluation.scales:
        kid, kids[scale] = search.kid(sampling.at_scale(scale))
        measures.append(replace(kid, name=SEARCH_AT_SCALE(of=kid.metric, at=scale).name))
    best = min(kids, key=lambda scale: kids[scale].value)
    at_best = search.quality(search.reported, sampling.at_scale(best))
    at_one = at_best
    if best != 1:
        at_one = search.quality(search.reported, sampling.at_scale(1.0))
    kind = BEST_GUIDE_SCALE if sampling.autoguided else BEST_SCALE
    return [
        search.chosen_measure(kind, best, measures[0]),
        *_fitted(kids, search, measures[0]),
        *measures,
        *search.at_best(at_best, AT_BEST_SCALE),
        *(
            replace(m, name=AT_SCALE_ONE(of=m.metric).name, protocol=m.protocol | search.settings)
            for m in at_one
        ),
    ]


def _fitted(kids: dict[float, Jackknife], search: SettingSearch, first: Measure) -> list[Measure]:
    """The vertex, and its distance above 1 for every 64 pixels of the resolution: under the rule
    of :func:`pippin.sampling.guidance.scale_at_resolution` the latter is the same everywhere."""
    recipe = search.run.recipe
    seed = recipe.evaluation.seed
    if len(kids) < MIN_SCALES:
        return []
    vertex = fitted_scale(tuple(kids), tuple(kids.values()), seed=seed)
    if vertex is None:
        return []
    chosen = search.chosen_measure(BEST_SCALE, 0.0, first)
    # The reference follows from the data's resolution, which the protocol holds already: scales,
    # unlike distances, are compared between resolutions.
    protocol = {n: entry for n, entry in chosen.protocol.items() if n != "reference_hash"}
    chosen = replace(chosen, protocol=protocol | {"seed": seed})
    per_side = [(value - 1) * SIDE / recipe.data.resolution for value in vertex]
    fits = {FITTED_SCALE: vertex, FITTED_GUIDANCE: per_side}
    if recipe.sampling.autoguided:  # the law is one of classifier-free guidance
        fits = {FITTED_GUIDE_SCALE: vertex}
    return [
        replace(chosen, name=kind.name, value=value, low=low, high=high, interval_over="samples")
        for kind, (value, low, high) in fits.items()
    ]

# SPDX-License-Identifier: Apache-2.0
"""The best semantic scale of a model, found on half of the reference, measured on the other half.

Which scale is best differs from model to model, so a comparison at one scale favours the model
that happens to fit it. The search has its own samples (their seeds begin at :data:`SEARCH_SEEDS`)
and its own half of the reference; what is reported at the best scale, and at 1 beside it, has the
seeds and the half that the search never saw.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from pippin.config import fingerprint
from pippin.evaluation.evaluate import compare, kernel_jackknife, kernel_measure
from pippin.evaluation.features import FeatureExtractor, Features, extract
from pippin.evaluation.fitted_scale import FEWEST, fitted_scale
from pippin.evaluation.measure import Jackknife, Measure
from pippin.recipes.recipe import Recipe
from pippin.rng import permutation
from pippin.run.evaluation_seeds import sample_seeds
from pippin.run.load import LoadedRun
from pippin.run.sample import draw, sampling_protocol
from pippin.sampling.config import SamplingConfig
from pippin.types import Images, Prompt

SEARCH_SEEDS = 1_000_000
REPORTED = ("KID-", "FD-", "FID", "sF", "IS", "coverage", "precision", "recall")
"""Beginnings of the measures that are reported."""
SIDE = 64
"""Pixels; the embedded pictures' usual side."""
CHOSEN = ("sampling.guidance.semantic_scale", "sampling.evaluations_per_image")
"""Entries of a protocol that follow from the scale that was found. They are recorded as
``chosen.ENTRY``, which numbers of several models may differ in and still be compared."""


def best_scale_measures(
    run: LoadedRun, prompts: list[Prompt], extractor: FeatureExtractor, reference: Features
) -> list[Measure]:
    """``best semantic scale``; KID of the search at every scale; quality at the best one and at 1.

    From five scales on, where KID has a minimum inside them, ``fitted semantic scale`` and
    ``fitted guidance per 64 px``: the vertex of a parabola through the KIDs of the search.

    Images are drawn in batches and not kept; a stop loses them.

    Args:
        run: ``evaluation.scales`` and ``scale_samples`` of its recipe say what is searched.
        prompts: of the reported samples; the search takes the first of them.
        extractor, reference: as for the distances of :func:`pippin.evaluation.evaluate.compare`.
    """
    config = run.recipe.evaluation
    order = permutation(len(reference), "subset", config.seed, "halves")
    ours, theirs = (part(reference, rows) for rows in order.tensor_split(2))
    searched = prompts[: config.scale_samples]
    seeds = sample_seeds(run.recipe, len(searched), SEARCH_SEEDS)
    search: list[Measure] = []
    found: dict[float, Jackknife] = {}
    for scale in config.scales:
        sampling = at_scale(run.recipe.sampling, scale)
        features = extract(extractor, sample_batches(run, searched, seeds, sampling))
        found[scale] = kernel_jackknife(features, ours)
        kid = kernel_measure(features, ours, found[scale])
        protocol = kid.protocol | sampling_protocol(run, sampling)
        name = f"search {kid.name} at scale {scale:g}"
        search.append(replace(kid, name=name, protocol=protocol))
    best = min(found, key=lambda scale: found[scale].value)
    asked = {"scales": list(config.scales), "scale_samples": len(searched)}
    at_best = _quality(run, prompts, best, extractor, theirs)
    at_one = at_best if best == 1 else _quality(run, prompts, 1.0, extractor, theirs)
    return [
        _chosen(best, search[0], asked),
        *_fitted(found, search[0], run.recipe, asked),
        *search,
        *(_named(one, "best scale", _of_choice(one.protocol) | asked) for one in at_best),
        *(_named(one, "scale 1", one.protocol | asked) for one in at_one),
    ]


def at_scale(sampling: SamplingConfig, scale: float) -> SamplingConfig:
    """The same sampling at another semantic scale; at 1 nothing is guided away from."""
    guidance = replace(sampling.guidance, semantic_scale=scale)
    negative = sampling.negative_prompt if scale != 1 else None
    return replace(sampling, guidance=guidance, negative_prompt=negative)


def sample_batches(
    run: LoadedRun, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: SamplingConfig
) -> Iterator[Images]:
    """Samples, one batch in memory at a time."""
    for start in range(0, len(prompts), sampling.batch_size):
        rows = slice(start, start + sampling.batch_size)
        yield draw(run, prompts[rows], seeds[rows], sampling)


def _quality(
    run: LoadedRun,
    prompts: list[Prompt],
    scale: float,
    extractor: FeatureExtractor,
    reference: Features,
) -> list[Measure]:
    sampling = at_scale(run.recipe.sampling, scale)
    images = sample_batches(run, prompts, sample_seeds(run.recipe, len(prompts)), sampling)
    protocol = sampling_protocol(run, sampling)
    return [
        replace(one, protocol=one.protocol | protocol)
        for one in compare(extract(extractor, images), reference, run.recipe.evaluation)
        if one.name.startswith(REPORTED) and not one.name.endswith("subsets")
    ]


def _chosen(best: float, search: Measure, asked: dict[str, Any]) -> Measure:
    """The scale itself, as a measure."""
    protocol = {name: value for name, value in search.protocol.items() if name not in CHOSEN}
    return Measure(
        name="best semantic scale",
        value=best,
        low=None,
        high=None,
        interval_over="none",
        n=search.n,
        unit="",
        better="neither",
        protocol=protocol | asked,
    )


def _fitted(
    found: dict[float, Jackknife], search: Measure, recipe: Recipe, asked: dict[str, Any]
) -> list[Measure]:
    """The vertex, and how far it lies above 1 for every 64 pixels of the pictures' side: under
    the law of scales the latter is the same at all resolutions."""
    seed = recipe.evaluation.seed
    if len(found) < FEWEST:
        return []
    vertex = fitted_scale(tuple(found), tuple(found.values()), seed=seed)
    if vertex is None:
        return []
    chosen = _chosen(0.0, search, asked | {"seed": seed})
    # The reference follows from the data's resolution, which the protocol holds already: scales,
    # unlike distances, are compared between resolutions.
    del chosen.protocol["reference_hash"]
    per_side = [(one - 1) * SIDE / recipe.data.resolution for one in vertex]
    fits = {"fitted semantic scale": vertex, f"fitted guidance per {SIDE} px": per_side}
    return [
        replace(chosen, name=name, value=value, low=low, high=high, interval_over="samples")
        for name, (value, low, high) in fits.items()
    ]


def _of_choice(protocol: dict[str, Any]) -> dict[str, Any]:
    """What follows from the scale under names of its own."""
    return {f"chosen.{n}" if n in CHOSEN else n: value for n, value in protocol.items()}


def _named(measure: Measure, place: str, protocol: dict[str, Any]) -> Measure:
    return replace(measure, name=f"{measure.name} at {place}", protocol=protocol)


def part(features: Features, rows: Tensor) -> Features:
    """Some images of a reference, in order, under a hash of their own."""
    kept = rows.sort().values
    name = fingerprint({"of": features.image_hash, "rows": kept.tolist()})
    return features.part(kept, name)

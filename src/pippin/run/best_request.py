# SPDX-License-Identifier: Apache-2.0
"""Quality of a model at the original size that suits it best, beside the sharpness of its samples.

FD and KID fall where samples are blurred, and how sharp a model's samples are depends on the
original size that they ask for. A comparison at one request therefore favours the model that is
blurred by it. Here every model is asked for several sizes, at every semantic scale of
``evaluation.scales``; FD on half of the reference and on samples of the search alone chooses, and
the other half and other samples are reported, as in :mod:`pippin.run.best_scale`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pippin.evaluation.evaluate import compare
from pippin.evaluation.features import FeatureExtractor, Features, extract
from pippin.evaluation.measure import Measure
from pippin.evaluation.sharpness import SharpnessMeter
from pippin.rng import permutation
from pippin.run.best_scale import CHOSEN, REPORTED, SEARCH_SEEDS, at_scale, part, sample_batches
from pippin.run.evaluation_seeds import sample_seeds
from pippin.run.load import LoadedRun
from pippin.run.sample import sampling_protocol
from pippin.sampling.config import ControlRequest, SamplingConfig
from pippin.types import Prompt

SHARPNESS = "sharpness"
SEARCHED = ("KID-", "FD-", "FID", SHARPNESS)
"""Beginnings of the measures of the search."""
DECIDES = ("FD-", "FID")
REQUEST = ("sampling.control.ask", "sampling.control.original_size", *CHOSEN)
"""Entries of a protocol that follow from what was chosen."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What samples may ask for."""

    request: int
    """Original size, the side of a square in pixels."""
    scale: float
    """Semantic guidance."""

    @property
    def name(self) -> str:
        """Where its measures are taken, behind "at"."""
        return f"request {self.request} scale {self.scale:g}"


def best_request_measures(
    run: LoadedRun, prompts: list[Prompt], extractor: FeatureExtractor, reference: Features
) -> list[Measure]:
    """``best request`` and ``best request scale``; FD, KID and sharpness of the search at every
    request and scale; quality and sharpness at the best pair.

    A model that does not read the original size is searched over scales alone.

    Args:
        run: ``evaluation.requests``, ``scales`` and ``scale_samples`` say what is searched.
        prompts: of the reported samples; the search takes the first of them.
        extractor, reference: as for :func:`pippin.evaluation.evaluate.compare`.
    """
    config = run.recipe.evaluation
    order = permutation(len(reference), "subset", config.seed, "halves")
    ours, theirs = (part(reference, rows) for rows in order.tensor_split(2))
    seeds = sample_seeds(run.recipe, config.scale_samples, SEARCH_SEEDS)
    search, found = [], {}
    for one in candidates(run):
        measures = _measured(run, prompts[: len(seeds)], seeds, one, extractor, ours)
        found[one] = next(m.value for m in measures if m.name.startswith(DECIDES))
        search += [
            replace(m, name=f"search {m.name} at {one.name}")
            for m in measures
            if m.name.startswith(SEARCHED)
        ]
    best = min(found, key=lambda one: found[one])
    asked = {
        "requests": list(config.requests),
        "scales": list(config.scales),
        "scale_samples": len(seeds),
    }
    report = sample_seeds(run.recipe, len(prompts))
    at_best = _measured(run, prompts, report, best, extractor, theirs)
    return [
        _chosen("best request", best.request, search[0], asked),
        _chosen("best request scale", best.scale, search[0], asked),
        *search,
        *(
            replace(m, name=f"{m.name} at best request", protocol=_of_choice(m.protocol) | asked)
            for m in at_best
        ),
    ]


def candidates(run: LoadedRun) -> list[Candidate]:
    """Every request with every scale; the largest request alone where the size is not read."""
    config = run.recipe.evaluation
    reads = "original_size" in run.read_names
    requests = config.requests if reads else (max(config.requests),)
    scales = config.scales or (run.recipe.sampling.guidance.semantic_scale,)
    return [Candidate(request=size, scale=scale) for size in requests for scale in scales]


def at_request(sampling: SamplingConfig, candidate: Candidate) -> SamplingConfig:
    """The same sampling, asking for a whole image of another original size."""
    before = sampling.control if sampling.control.ask == "fixed" else ControlRequest()
    side = (candidate.request, candidate.request)
    control = replace(before, original_size=side, crop_corner=(0, 0), crop_size=None)
    return at_scale(replace(sampling, control=control), candidate.scale)


def sampling_of(run: LoadedRun, candidate: Candidate) -> SamplingConfig:
    """The run's sampling at a candidate; of a model that reads no size, at its scale alone."""
    if "original_size" in run.read_names:
        return at_request(run.recipe.sampling, candidate)
    return at_scale(run.recipe.sampling, candidate.scale)


def _measured(
    run: LoadedRun,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    candidate: Candidate,
    extractor: FeatureExtractor,
    reference: Features,
) -> list[Measure]:
    """Quality and sharpness of samples of one request."""
    sampling, meter = sampling_of(run, candidate), SharpnessMeter()
    images: Iterator[Any] = meter.watch(sample_batches(run, prompts, seeds, sampling))
    features = extract(extractor, images)
    protocol = sampling_protocol(run, sampling)
    found = [
        one
        for one in compare(features, reference, run.recipe.evaluation)
        if one.name.startswith(REPORTED) and not one.name.endswith("subsets")
    ]
    found.append(meter.measure(seed=run.recipe.evaluation.seed))
    return [replace(one, protocol=one.protocol | protocol) for one in found]


def _chosen(name: str, value: float, search: Measure, asked: dict[str, Any]) -> Measure:
    """What was chosen, as a measure."""
    protocol = {name: entry for name, entry in search.protocol.items() if name not in REQUEST}
    return Measure(
        name=name,
        value=float(value),
        low=None,
        high=None,
        interval_over="none",
        n=search.n,
        unit="px" if name == "best request" else "",
        better="neither",
        protocol=protocol | asked,
    )


def _of_choice(protocol: dict[str, Any]) -> dict[str, Any]:
    """What follows from the choice under names of its own."""
    return {f"chosen.{n}" if n in REQUEST else n: value for n, value in protocol.items()}

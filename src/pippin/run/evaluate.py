# SPDX-License-Identifier: Apache-2.0
"""``pippin evaluate``: every measure of a run or of a folder of images, with floors beside."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from pippin.config import fingerprint, protocol
from pippin.data.config import DataConfig
from pippin.data.open import build_source
from pippin.data.table import Split
from pippin.data.views import clean_view
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.evaluate import compare
from pippin.evaluation.features import FeatureExtractor, Features, build_features, extract
from pippin.evaluation.folder import folder_images
from pippin.evaluation.measure import Measure
from pippin.rng import permutation
from pippin.run.cost import cost_measures
from pippin.run.drift import drift_measures
from pippin.run.held_out import HeldOut
from pippin.run.load import LoadedRun, untrained_run
from pippin.run.sample import Samples, draw, write

SHOWN = 36
"""Images in the grid that goes with an evaluation."""


def evaluate_run(run: LoadedRun, folder: Path) -> list[Measure]:
    """Held-out loss, sample quality, control drift and effect of a run; floors beside.

    Writes samples/ and drift/ below ``folder``.

    Args:
        run: the model that is measured; its recipe says how.
        folder: where the pictures go.
    """
    config = run.recipe.evaluation
    extractor = build_features(config, run.parts.device)
    held_out = HeldOut(run.parts)
    samples = _samples(run, config.num_samples)
    shown = replace(
        samples,
        seeds=samples.seeds[:SHOWN],
        labels=samples.labels[:SHOWN],
        images=samples.images[:SHOWN],
    )
    write(shown, run.class_names, folder / "samples")
    reference = clean_features(run.recipe.data, config, "train", run.parts.device)
    return [
        *cost_measures(run.recipe, len(run.class_names), run.parts.latent_shape),
        *held_out.losses(run.model),
        *_with_protocol(compare(_features(samples, extractor), reference, config), samples),
        *drift_measures(run, folder, extractor),
        *real_floor(run.recipe.data, config, run.parts.device),
        *_untrained(run, held_out, reference, extractor),
    ]


def evaluate_folder(
    path: Path, data: DataConfig, config: EvaluationConfig, device: torch.device
) -> list[Measure]:
    """Sample quality of a folder of images against the clean training pictures of a data set."""
    images = extract(build_features(config, device), folder_images(path, config.batch_size))
    reference = clean_features(data, config, "train", device)
    return [*compare(images, reference, config), *real_floor(data, config, device)]


def real_floor(data: DataConfig, config: EvaluationConfig, device: torch.device) -> list[Measure]:
    """The same distances for held-out real pictures: what a perfect model could reach.

    Own pictures may hold out too few for these distances; then there is no floor, and that is
    said.
    """
    reference = clean_features(data, config, "train", device)
    held_out = clean_features(data, config, "held-out", device)
    if len(held_out) < config.neighbours + 2:
        Console(stderr=True).print(
            f"[yellow]no floor:[/] {len(held_out)} pictures are held out, and the distances need "
            f"{config.neighbours + 2}; more pictures or a larger data.held_out_share give one"
        )
        return []
    return compare(held_out, reference, config, subject="real")


@lru_cache(maxsize=4)
def clean_features(
    data: DataConfig, config: EvaluationConfig, split: Split, device: torch.device
) -> Features:
    """Features of the clean view of every picture, one per base picture.

    Kept in memory: the arms of a study share them.
    """
    source = build_source(data, split)
    rows = torch.arange(len(source)).split(config.batch_size)
    batches = (torch.stack([clean_view(source, i).image for i in part.tolist()]) for part in rows)
    return extract(build_features(config, device), batches)


def evaluation_labels(run: LoadedRun, count: int) -> list[int]:
    """Classes as often as among the training pictures, in an order of the evaluation's seed."""
    source = run.parts.train_source
    order = permutation(len(source), "subset", run.recipe.evaluation.seed, "labels").tolist()
    return [source.label(order[place % len(order)]) for place in range(count)]


def _samples(run: LoadedRun, count: int) -> Samples:
    return draw(run, evaluation_labels(run, count), range(count), run.recipe.sampling)


def _features(samples: Samples, extractor: FeatureExtractor) -> Features:
    return extract(extractor, samples.images.split(64))


def _with_protocol(measures: Sequence[Measure], samples: Samples) -> list[Measure]:
    extra = {**samples.protocol, "labels": "as often as in training"}
    return [replace(one, protocol=one.protocol | extra) for one in measures]


def _untrained(
    run: LoadedRun, held_out: HeldOut, reference: Features, extractor: FeatureExtractor
) -> list[Measure]:
    """Held-out loss and sample quality of the initial weights, on as many samples."""
    config = run.recipe.evaluation
    untrained = untrained_run(run.recipe, run.parts.console)
    samples = _samples(untrained, config.num_samples)
    measures = compare(_features(samples, extractor), reference, config, subject="untrained")
    return [
        *held_out.losses(untrained.model, subject="untrained")[:1],
        *_with_protocol(measures, samples),
    ]


def write_results(
    measures: Sequence[Measure], recipe_protocol: dict[str, Any], path: Path
) -> None:
    """One JSON line a measure, each with its protocol; the file is replaced whole."""
    lines = [
        json.dumps({**one.to_dict(), "protocol": content, "fingerprint": fingerprint(content)})
        for one in measures
        for content in [recipe_protocol | {f"measure.{k}": v for k, v in one.protocol.items()}]
    ]
    staging = path.with_suffix(".writing")
    staging.write_text("\n".join(lines) + "\n", encoding="utf-8")
    staging.replace(path)


def run_protocol(run: LoadedRun) -> dict[str, Any]:
    """The whole recipe as protocol entries."""
    return protocol(run.recipe)

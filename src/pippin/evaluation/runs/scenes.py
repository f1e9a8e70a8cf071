# SPDX-License-Identifier: Apache-2.0
"""Accuracy of samples of a shapes model: whether they show the requested scene."""

from collections.abc import Iterator
from pathlib import Path

import torch

from pippin.data.sources.shapes.shapes_source import ShapesSource
from pippin.data.views.views import clean_view
from pippin.encoders.normalisation import to_pixels
from pippin.evaluation.measure import Measure
from pippin.evaluation.metrics.scene.reader import SceneReader
from pippin.evaluation.metrics.scene.samples import class_statement, statement_of, vocabulary_of
from pippin.evaluation.metrics.scene.score import CLASS, Statement, accuracy_measures
from pippin.evaluation.metrics.scene.tasks import task_measures
from pippin.evaluation.runs.protocol import sample_seeds
from pippin.images.folder import image_batches
from pippin.rng import permutation
from pippin.sampling.load import LoadedRun
from pippin.sampling.sample import sampled_files, sampling_protocol
from pippin.sampling.sample_folder import SHOWN
from pippin.types import Images, Prompt


def scene_measures(run: LoadedRun, place: Path) -> list[Measure]:
    """Accuracies of samples for held-out scenes, with their floor and their ceiling.

    The sample seed of scene k is the same for every kind of caption, so kinds are compared on
    equal noise.

    Args:
        run: a text model, or a class-conditional one.
        place: folder of the samples; existing ones are reused.
    """
    config, source = run.recipe.evaluation, run.components.held_out_source
    assert isinstance(source, ShapesSource)
    count = min(config.scene_samples, len(source))
    kinds = config.scene_captions if run.components.text_rule is not None else (CLASS,)
    statements = {kind: _statements(source, kind, count) for kind in kinds}
    reader = SceneReader(vocabulary_of(run.recipe.data.resolution))
    samples = {
        kind: reader.read(_samples(run, source, kind, count, place / kind)) for kind in kinds
    }
    real = reader.read(_reconstructions(run, source, count))
    order = permutation(count, "subset", config.seed, "scene")
    shared = {"scenes": "held-out", "source": source.content_hash(), "captions": list(kinds)}
    sample_protocol = shared | sampling_protocol(run, run.recipe.sampling)
    ceiling = dict.fromkeys(kinds, real)
    autoencoded = shared | {"autoencoder": run.components.autoencoder.fingerprint}
    scores = [accuracy_measures] if kinds == (CLASS,) else [accuracy_measures, task_measures]
    return [
        one
        for measures in scores
        for one in (
            *measures(samples, statements, subject="arm", protocol=sample_protocol),
            *measures(samples, statements, subject="arm", order=order, protocol=sample_protocol),
            *measures(ceiling, statements, subject="real", protocol=autoencoded),
        )
    ]


def _statements(source: ShapesSource, kind: str, count: int) -> list[Statement]:
    scenes = [source.scene(index) for index in range(count)]
    if kind == CLASS:
        return [class_statement(scene, source.config.label) for scene in scenes]
    return [statement_of(scene, kind) for scene in scenes]


def _samples(
    run: LoadedRun, source: ShapesSource, kind: str, count: int, place: Path
) -> Iterator[Images]:
    """One image per held-out scene, for its caption of a kind or its class."""
    prompts: list[Prompt] = [
        source.label(index) if kind == CLASS else source.captions(index)[kind]
        for index in range(count)
    ]
    seeds = sample_seeds(run.recipe, count)
    files = sampled_files(run, prompts, seeds, place, clear=True, shown=SHOWN)
    return image_batches(files, run.recipe.evaluation.batch_size)


def _reconstructions(run: LoadedRun, source: ShapesSource, count: int) -> Iterator[Images]:
    """Clean views of the same scenes through the autoencoder: the ceiling of every model."""
    autoencoder = run.components.autoencoder
    for part in torch.arange(count).split(run.recipe.evaluation.batch_size):
        images = torch.stack([clean_view(source, index).image for index in part.tolist()])
        moments = autoencoder.encode(to_pixels(images.to(run.components.device)))
        yield autoencoder.decode(autoencoder.normalise(moments.mean)).cpu()

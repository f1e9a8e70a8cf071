# SPDX-License-Identifier: Apache-2.0
"""Agreement of a text model's samples with held-out captions: retrieval, and CLIP score."""

from pathlib import Path
from typing import Any

import torch

from pippin.config import ConfigError
from pippin.data.views.views import clean_images
from pippin.evaluation.features.extraction import FeatureExtractor, Features, extract
from pippin.evaluation.measure import Measure, Subject
from pippin.evaluation.metrics.alignment import (
    caption_ranks,
    fit_ridge,
    retrieval_measures,
    unique_captions,
)
from pippin.evaluation.metrics.clip_score import Clip, clip_measures, warn_truncated_captions
from pippin.evaluation.runs.protocol import sample_seeds
from pippin.images.folder import image_batches
from pippin.rng import permutation
from pippin.sampling.load import LoadedRun
from pippin.sampling.sample import sampled_files, sampling_protocol
from pippin.sampling.sample_folder import SHOWN


def caption_samples(run: LoadedRun, place: Path) -> list[Path]:
    """Sample one image for the caption of each held-out image, seed k with caption k.

    Samples of the same protocol that ``place`` holds already are reused. Returns their files.
    """
    held_out = run.components.held_out_captions
    assert held_out is not None
    seeds = sample_seeds(run.recipe, len(held_out.first))
    return sampled_files(run, held_out.first, seeds, place, clear=True, shown=SHOWN)


def alignment_measures(
    run: LoadedRun,
    extractor: FeatureExtractor,
    reference: Features,
    real: Features,
    place: Path,
) -> list[Measure]:
    """Retrieval R@k of held-out captions: for samples, for real images, and for shuffled captions.

    The list is empty where the text encoder has no pooled vector for a caption.

    Args:
        run: a text model.
        extractor: image features.
        reference: features of the training images' clean views, in order.
        real: features of the held-out images' clean views, in order.
        place: folder of the samples; see :func:`caption_samples`.
    """
    train, held_out = run.components.captions, run.components.held_out_captions
    assert train is not None and held_out is not None
    train_vectors, held_out_vectors = train.vectors(), held_out.vectors()
    if train_vectors is None or held_out_vectors is None:
        return []
    ridge = fit_ridge(reference.values, train_vectors)
    first, own = unique_captions(held_out.first)
    texts = held_out_vectors[torch.tensor(first)]
    files = caption_samples(run, place)
    samples = extract(extractor, image_batches(files, run.recipe.evaluation.batch_size))
    order = permutation(len(own), "subset", run.recipe.evaluation.seed, "shuffled")
    shared: dict[str, Any] = {
        **real.protocol(),
        "ridge_strength": ridge.strength,
        "captions_of": "held-out pictures",
        "text": list(run.recipe.text.source),
    }
    sample_protocol = shared | sampling_protocol(run, run.recipe.sampling)
    measures = []
    subjects: list[tuple[Features, Subject, dict[str, Any]]] = [
        (samples, "arm", sample_protocol),
        (real, "real", shared),
    ]
    for features, subject, protocol in subjects:
        predicted = ridge(features.values)
        for answers, shuffled in ((own, False), (own[order], True)):
            ranks = caption_ranks(predicted, texts, answers)
            measures += retrieval_measures(
                ranks, len(texts), subject=subject, shuffled=shuffled, protocol=protocol
            )
    return measures


def clip_for(run: LoadedRun) -> Clip | None:
    """Load the CLIP model of a run's evaluation, on its device, for the CLIP score; None where it
    names none, or names one for the features of a model without captions.

    Raises:
        ConfigError: the model reads no captions.
        ValueError: see :class:`pippin.evaluation.metrics.clip_score.Clip`.
    """
    source = run.recipe.evaluation.clip
    if source is None:
        return None
    if run.components.text_rule is None:
        if run.recipe.evaluation.features == "clip":
            return None
        raise ConfigError(
            "evaluation.clip measures how well images match the captions they were sampled for; "
            f"this model reads none: leave --clip {source} out, or evaluate a text model"
        )
    return Clip(source, run.components.device)


def held_out_clip_measures(run: LoadedRun, clip: Clip, place: Path) -> list[Measure]:
    """CLIP score of samples for the captions of held-out images, and of these images themselves.

    Args:
        run: a text model, whatever its text encoder.
        clip: scores images against captions.
        place: folder of the samples; see :func:`caption_samples`.
    """
    config, held_out = run.recipe.evaluation, run.components.held_out_captions
    assert held_out is not None
    samples = image_batches(caption_samples(run, place), config.batch_size)
    real = clean_images(run.components.held_out_source, config.batch_size)
    shared: dict[str, Any] = {"captions_of": "held-out pictures"}
    sample_protocol = shared | sampling_protocol(run, run.recipe.sampling)
    subjects: dict[Subject, Any] = {"arm": (samples, sample_protocol), "real": (real, shared)}
    warn_truncated_captions(clip, held_out.first, run.components.console)
    return clip_measures(clip, held_out.first, subjects, config)

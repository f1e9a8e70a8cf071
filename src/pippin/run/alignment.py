# SPDX-License-Identifier: Apache-2.0
"""Caption alignment of a text model's samples, between a ceiling and a floor."""

from pathlib import Path
from typing import Any

import torch

from pippin.evaluation.alignment import (
    caption_ranks,
    fit_ridge,
    retrieval_measures,
    unique_captions,
)
from pippin.evaluation.features import FeatureExtractor, Features, extract
from pippin.evaluation.folder import image_batches
from pippin.evaluation.measure import Measure, Subject
from pippin.rng import permutation
from pippin.run.evaluation_seeds import sample_seeds
from pippin.run.load import LoadedRun
from pippin.run.sample import draw_into, sample_rows, sampling_protocol
from pippin.run.sample_folder import SHOWN, make_room


def caption_samples(run: LoadedRun, place: Path) -> list[Path]:
    """Sample one image for the caption of each held-out image, seed k with caption k.

    Samples of the same protocol that ``place`` holds already are reused. Returns their files.
    """
    held_out, sampling = run.parts.held_out_captions, run.recipe.sampling
    assert held_out is not None
    seeds = sample_seeds(run.recipe, len(held_out.first))
    make_room(place, sampling_protocol(run, sampling))
    draw_into(run, held_out.first, seeds, sampling, place, shown=SHOWN)
    return [place / row.file for row in sample_rows(run, held_out.first, seeds)]


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
    train, held_out = run.parts.captions, run.parts.held_out_captions
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

# SPDX-License-Identifier: Apache-2.0
"""How well a model of text shows what captions say, between a ceiling and a floor."""

from pathlib import Path
from typing import Any

import torch

from pippin.evaluation.alignment import (
    caption_ranks,
    fit_ridge,
    places,
    retrieval_measures,
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
    """The files of one sample a held-out picture's caption, seed k with caption k.

    Those that are in ``place`` already, of the same protocol, are not drawn again.
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
    """R@k of held-out captions: of the model's samples, of real pictures, and with captions
    exchanged; none where the text encoder has no vector for a caption.

    Args:
        run: of a model of text.
        extractor: of images.
        reference: training pictures' clean views, in order.
        real: held-out pictures' clean views, in order.
        place: where samples are kept; see :func:`caption_samples`.
    """
    train, held_out = run.parts.captions, run.parts.held_out_captions
    assert train is not None and held_out is not None
    of_train, of_held_out = train.vectors(), held_out.vectors()
    if of_train is None or of_held_out is None:
        return []
    ridge = fit_ridge(reference.values, of_train)
    first, own = places(held_out.first)
    texts = of_held_out[torch.tensor(first)]
    files = caption_samples(run, place)
    drawn = extract(extractor, image_batches(files, run.recipe.evaluation.batch_size))
    order = permutation(len(own), "subset", run.recipe.evaluation.seed, "shuffled")
    shared: dict[str, Any] = {
        **real.protocol(),
        "ridge_strength": ridge.strength,
        "captions_of": "held-out pictures",
        "text": list(run.recipe.text.source),
    }
    mine = shared | sampling_protocol(run, run.recipe.sampling)
    measures = []
    sides: list[tuple[Features, Subject, dict[str, Any]]] = [
        (drawn, "arm", mine),
        (real, "real", shared),
    ]
    for features, subject, protocol in sides:
        predicted = ridge(features.values)
        for answers, shuffled in ((own, False), (own[order], True)):
            ranks = caption_ranks(predicted, texts, answers)
            measures += retrieval_measures(
                ranks, len(texts), subject=subject, shuffled=shuffled, protocol=protocol
            )
    return measures

# SPDX-License-Identifier: Apache-2.0
"""The CLIP score of a model of text, between real pictures and captions that were exchanged."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from pippin.config import ConfigError
from pippin.data.views import clean_images
from pippin.evaluation.clip_score import Clip, clip_measures
from pippin.evaluation.folder import image_batches
from pippin.evaluation.measure import Measure, Subject
from pippin.run.alignment import caption_samples
from pippin.run.load import LoadedRun
from pippin.run.sample import sampling_protocol
from pippin.system.terminal import note


def clip_for(run: LoadedRun) -> Clip | None:
    """The CLIP that a run's evaluation names, on its device; None where it names none.

    Raises:
        ConfigError: the model reads no captions.
        ValueError: see :class:`pippin.evaluation.clip_score.Clip`.
    """
    source = run.recipe.evaluation.clip
    if source is None:
        return None
    if run.parts.text_rule is None:
        raise ConfigError(
            "evaluation.clip measures how well images show the captions they were drawn for; "
            f"this model reads none: leave --clip {source} out, or evaluate a model of text"
        )
    return Clip(source, run.parts.device)


def say_cut_captions(clip: Clip, captions: Sequence[str], console: Console) -> None:
    """Count captions that are longer than the CLIP reads: their scores are of their beginnings."""
    if count := clip.num_cut(captions):
        note(
            console,
            f"{count} of {len(captions)} captions ({count / len(captions):.1%}) have more than "
            f"the {clip.text_tokens} tokens that the CLIP reads, and their scores are of what it "
            "reads",
            label="captions cut:",
        )


def held_out_clip_measures(run: LoadedRun, clip: Clip, place: Path) -> list[Measure]:
    """Of samples for the captions of held-out pictures, and of these pictures themselves.

    Args:
        run: of a model of text, whatever its text encoder.
        clip: of images and captions.
        place: where the samples are kept; see :func:`pippin.run.alignment.caption_samples`.
    """
    config, held_out = run.recipe.evaluation, run.parts.held_out_captions
    assert held_out is not None
    drawn = image_batches(caption_samples(run, place), config.batch_size)
    real = clean_images(run.parts.held_out_source, config.batch_size)
    shared: dict[str, Any] = {"captions_of": "held-out pictures"}
    mine = shared | sampling_protocol(run, run.recipe.sampling)
    sides: dict[Subject, Any] = {"arm": (drawn, mine), "real": (real, shared)}
    say_cut_captions(clip, held_out.first, run.parts.console)
    return clip_measures(clip, held_out.first, sides, config)

# SPDX-License-Identifier: Apache-2.0
"""CLIP score of a text model, between real images and shuffled captions."""

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
from pippin.system.terminal import print_above_progress


def clip_for(run: LoadedRun) -> Clip | None:
    """Load the CLIP model of a run's evaluation, on its device; None where it names none.

    Raises:
        ConfigError: the model reads no captions.
        ValueError: see :class:`pippin.evaluation.clip_score.Clip`.
    """
    source = run.recipe.evaluation.clip
    if source is None:
        return None
    if run.parts.text_rule is None:
        raise ConfigError(
            "evaluation.clip measures how well images match the captions they were sampled for; "
            f"this model reads none: leave --clip {source} out, or evaluate a text model"
        )
    return Clip(source, run.parts.device)


def warn_truncated_captions(clip: Clip, captions: Sequence[str], console: Console) -> None:
    """Warn of captions that are longer than CLIP reads: only their beginnings are scored."""
    if count := clip.num_truncated(captions):
        print_above_progress(
            console,
            f"{count} of {len(captions)} captions ({count / len(captions):.1%}) have more than "
            f"the {clip.text_tokens} tokens that CLIP reads; their scores ignore the rest",
            label="truncated captions:",
        )


def held_out_clip_measures(run: LoadedRun, clip: Clip, place: Path) -> list[Measure]:
    """CLIP score of samples for the captions of held-out images, and of these images themselves.

    Args:
        run: a text model, whatever its text encoder.
        clip: scores images against captions.
        place: folder of the samples; see :func:`pippin.run.alignment.caption_samples`.
    """
    config, held_out = run.recipe.evaluation, run.parts.held_out_captions
    assert held_out is not None
    samples = image_batches(caption_samples(run, place), config.batch_size)
    real = clean_images(run.parts.held_out_source, config.batch_size)
    shared: dict[str, Any] = {"captions_of": "held-out pictures"}
    sample_protocol = shared | sampling_protocol(run, run.recipe.sampling)
    subjects: dict[Subject, Any] = {"arm": (samples, sample_protocol), "real": (real, shared)}
    warn_truncated_captions(clip, held_out.first, run.parts.console)
    return clip_measures(clip, held_out.first, subjects, config)

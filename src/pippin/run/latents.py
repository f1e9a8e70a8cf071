# SPDX-License-Identifier: Apache-2.0
"""What normalises the latents of a run: the autoencoder's own numbers, or measured ones.

Measured numbers belong to the weights that were trained on them. Each checkpoint and each export
holds them, and whatever reads the weights takes them from there.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from pippin.data.bucketed import BucketedMoments
from pippin.data.moments import MomentSource
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig
from pippin.encoders.statistics import LatentStatistics, latent_statistics, taken_over
from pippin.recipes.recipe import Recipe
from pippin.rng import permutation
from pippin.types import Moments

LATENTS = "latents"
"""The entry of a checkpoint's state, and of an export's facts, with measured numbers."""
SAMPLE = 512
"""Training images whose latents are measured; all, where there are fewer."""
BATCH = 32
"""Images of it that are read, or encoded, at once."""
USUAL_RMS = (0.7, 1.4)
"""Between these the root mean square of normalised latents is as noise schedules expect it: twice
or half the variance of the noise is no more than that."""


def measure_latents(source: MomentSource, autoencoder: str, seed: int) -> LatentStatistics:
    """Statistics of one view of each of some training images.

    They depend on the images, the autoencoder and the seed alone, and come from the cache where
    there is one.

    Args:
        source: moments of the training images.
        autoencoder: fingerprint of what encodes them.
        seed: of the choice, ``data.seed``.

    Raises:
        ValueError: see :func:`pippin.encoders.statistics.latent_statistics`.
    """
    chosen = permutation(len(source), "subset", seed, "latents")[:SAMPLE]
    return latent_statistics(_moments(source, chosen), autoencoder)


def _moments(source: MomentSource, chosen: torch.Tensor) -> Iterator[Moments]:
    """Of the chosen images, view k mod n of the k-th one; bucket by bucket where there are any."""
    views = torch.arange(len(chosen)) % source.num_views
    parts = [torch.arange(len(chosen))]
    if isinstance(source, BucketedMoments):
        inside = [torch.isin(chosen, bucket.pictures) for bucket in source.buckets]
        parts = [places.nonzero().squeeze(1) for places in inside]
    for part in parts:
        for rows in part.split(BATCH):
            yield source.fetch(chosen[rows], views[rows]).moments


def stored_latents(facts: Mapping[str, Any], path: Path) -> LatentStatistics | None:
    """What normalised the latents that weights were trained on; None = the autoencoder's own.

    Args:
        facts: the state of a checkpoint, or the facts of an export.
        path: of it, for messages.

    Raises:
        ValueError: the entry is damaged.
    """
    if LATENTS not in facts:
        return None
    try:
        found = LatentStatistics.from_dict(facts[LATENTS])
        _ = found.affine
    except ValueError as error:
        raise ValueError(f"{path}: its statistics of latents are damaged: {error}") from error
    return found


def check_latents(
    latents: LatentStatistics | None, config: AutoencoderConfig, autoencoder: Autoencoder
) -> None:
    """Refuse weights whose latents were normalised otherwise than the recipe would.

    Args:
        latents: that the weights were trained with; None = the autoencoder's own numbers.
        config: of the recipe.
        autoencoder: with its own numbers.

    Raises:
        ValueError: naming what differs.
    """
    if (latents is not None) != (config.normalisation == "measured"):
        there = "measured" if latents is not None else "weights"
        raise ValueError(
            f"these weights were trained with autoencoder.normalisation {there}; the recipe says "
            f"{config.normalisation}: give --autoencoder.normalisation {there}, or the recipe "
            "that is recorded with the weights"
        )
    if latents is not None and latents.autoencoder != autoencoder.fingerprint:
        raise ValueError(
            "the latents that these weights were trained on are of another autoencoder "
            f"(fingerprint {latents.autoencoder}); {config.source} has {autoencoder.fingerprint}: "
            "name the one that they were trained with: --autoencoder FOLDER of sample, evaluate "
            "and export, --autoencoder.source FOLDER of train"
        )


def inherited(
    theirs: LatentStatistics | None, start: Recipe, recipe: Recipe, autoencoder: Autoencoder
) -> LatentStatistics | None:
    """The numbers that a run takes over from the weights it starts from; None where it measures
    its own, or has those of the autoencoder.

    Args:
        theirs: measured ones of the start; None = those of its autoencoder.
        start: recipe of the start.
        recipe: of the run.
        autoencoder: of the run, with its own numbers.

    Raises:
        ValueError: the recipe would normalise the same latents by other numbers.
    """
    same = (start.autoencoder.source, start.autoencoder.revision) == (
        recipe.autoencoder.source,
        recipe.autoencoder.revision,
    )
    if theirs is not None:
        same = theirs.autoencoder == autoencoder.fingerprint
    if not same:  # numbers of other latents mean nothing here
        return None
    if recipe.autoencoder.normalisation == "measured":
        return theirs or taken_over(autoencoder.affine, autoencoder.fingerprint)
    if theirs is not None:
        raise ValueError(
            "its weights read latents that were normalised by measured numbers (mean "
            f"{_shown(theirs.mean)}; deviation {_shown(theirs.std)}); autoencoder.normalisation "
            "weights would normalise them by others: give --autoencoder.normalisation measured, "
            "which takes those of init.run"
        )
    return None


def rms_line(
    measured: LatentStatistics, used: LatentStatistics | None, own: Autoencoder, source: str
) -> str | None:
    """What to say of the latents of training images when a run begins, if anything.

    Args:
        measured: of a sample of the images.
        used: what the run normalises by; None = the autoencoder's own numbers.
        own: the autoencoder, with these.
        source: its name.
    """
    alone = measured.rms(own.affine)
    if used is not None and used.images:
        return (
            f"normalised by numbers measured on {used.images} images; by those of {source} their "
            f"root mean square would be {alone:.2f}"
        )
    rms = alone if used is None else measured.rms(used.affine)
    if is_usual(rms):
        return None
    low, high = USUAL_RMS
    whose, advice = f"those of {source}", "--autoencoder.normalisation measured makes it 1"
    if used is not None:
        whose, advice = "the numbers of init.run", "its weights read no others"
    return (
        f"normalised by {whose}, their root mean square is {rms:.2f} on {measured.images} images, "
        f"outside {low} to {high}; noise schedules and learning rates are made for 1: {advice}"
    )


def is_usual(rms: float) -> bool:
    """Whether a root mean square of normalised latents is one that nothing need be said of."""
    low, high = USUAL_RMS
    return low <= rms <= high


def _shown(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:.3g}" for number in numbers)

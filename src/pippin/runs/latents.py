# SPDX-License-Identifier: Apache-2.0
"""Latent statistics of a run: the autoencoder's own, or measured ones.

Measured statistics belong to the weights that were trained with them. Each checkpoint and each
export contains them, and everything that reads the weights uses them.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from pippin.data.cache.cache_folders import STATISTICS_PREFIX
from pippin.data.cache.latent_cache import LatentCache
from pippin.data.moments import BucketedMoments, MomentSource
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig
from pippin.encoders.statistics import LatentStatistics, latent_statistics, statistics_from_affine
from pippin.recipes.recipe import Recipe
from pippin.rng import permutation
from pippin.system.files import read_regular, write_json
from pippin.system.formats import parse_json
from pippin.types import Moments

LATENTS = "latents"
"""Entry of a checkpoint's state, and of an export's facts, with measured statistics."""
SAMPLE = 512
"""Number of training images that are measured; all, where there are fewer."""
BATCH = 32
"""Images per batch of the measurement."""
USUAL_RMS = (0.7, 1.4)
"""Range of the root mean square of normalised latents that suits noise schedules: outside, their
variance is more than twice or less than half that of the noise."""


def measure_latents(source: MomentSource, autoencoder: str, seed: int) -> LatentStatistics:
    """Measure the latents of one view of each of some training images.

    The statistics depend only on the images, the autoencoder and the seed. Latents come from the
    cache where there is one, which keeps the result for later runs; the name of its folder
    determines images, views, autoencoder and type. Several caches, of buckets or of shards, keep
    none.

    Args:
        source: moments of the training images.
        autoencoder: fingerprint of the autoencoder.
        seed: seed of the choice of images, ``data.seed``.

    Raises:
        ValueError: see :func:`pippin.encoders.statistics.latent_statistics`.
    """
    path = None
    if isinstance(source, LatentCache):
        path = source.folder / f"{STATISTICS_PREFIX}{seed}-{SAMPLE}.json"
        stored = _read_statistics(path, autoencoder, source.channels)
        if stored is not None:
            return stored
    chosen = permutation(len(source), "subset", seed, "latents")[:SAMPLE]
    statistics = latent_statistics(_moments(source, chosen), autoencoder)
    if path is not None:
        with suppress(OSError):  # a cache that others own may be read-only
            write_json(path, statistics.to_dict())
    return statistics


def _read_statistics(path: Path, autoencoder: str, channels: int) -> LatentStatistics | None:
    """Statistics of an earlier run; None if there are none, or other or damaged ones."""
    try:
        statistics = LatentStatistics.from_dict(parse_json(read_regular(path)))
        _ = statistics.affine
    except (OSError, ValueError):
        return None
    fits = len(statistics.mean) == channels and statistics.autoencoder == autoencoder
    return statistics if fits else None


def _moments(source: MomentSource, chosen: torch.Tensor) -> Iterator[Moments]:
    """Moments of the chosen images, view k mod n of the k-th; by bucket where there are any."""
    views = torch.arange(len(chosen)) % source.num_views
    parts = [torch.arange(len(chosen))]
    if isinstance(source, BucketedMoments):
        inside = [torch.isin(chosen, bucket.images) for bucket in source.buckets]
        parts = [positions.nonzero().squeeze(1) for positions in inside]
    for part in parts:
        for rows in part.split(BATCH):
            yield source.fetch(chosen[rows], views[rows]).moments


def stored_latents(facts: Mapping[str, Any], path: Path) -> LatentStatistics | None:
    """The latent statistics that weights were trained with; None = the autoencoder's own.

    Args:
        facts: the state of a checkpoint, or the facts of an export.
        path: its path, for messages.

    Raises:
        ValueError: the entry is damaged.
    """
    if LATENTS not in facts:
        return None
    try:
        statistics = LatentStatistics.from_dict(facts[LATENTS])
        _ = statistics.affine
    except ValueError as error:
        raise ValueError(f"{path}: its statistics of latents are damaged: {error}") from error
    return statistics


def check_latents(
    latents: LatentStatistics | None, config: AutoencoderConfig, autoencoder: Autoencoder
) -> None:
    """Refuse weights whose latents were normalised differently from the recipe.

    Args:
        latents: statistics that the weights were trained with; None = the autoencoder's own.
        config: autoencoder of the recipe.
        autoencoder: the autoencoder with its own statistics.

    Raises:
        ValueError: the message names the difference.
    """
    if (latents is not None) != (config.normalisation == "measured"):
        trained = "measured" if latents is not None else "weights"
        raise ValueError(
            f"these weights were trained with autoencoder.normalisation {trained}; the "
            f"recipe says {config.normalisation}: give --autoencoder.normalisation {trained}, "
            "or the recipe that is recorded with the weights"
        )
    if latents is not None and latents.autoencoder != autoencoder.fingerprint:
        raise ValueError(
            "the latents that these weights were trained on are of another autoencoder "
            f"(fingerprint {latents.autoencoder}); {config.source} has {autoencoder.fingerprint}: "
            "name the one that they were trained with: --autoencoder FOLDER of sample, evaluate "
            "and export, --autoencoder.source FOLDER of train"
        )


def inherited_latents(
    start_latents: LatentStatistics | None,
    start: Recipe,
    recipe: Recipe,
    autoencoder: Autoencoder,
) -> LatentStatistics | None:
    """The latent statistics that a run inherits from the weights it starts from; None where it
    measures its own, or uses those of the autoencoder.

    Args:
        start_latents: measured statistics of the start; None = those of its autoencoder.
        start: recipe of the start.
        recipe: recipe of the run.
        autoencoder: autoencoder of the run, with its own statistics.

    Raises:
        ValueError: the recipe would normalise the same latents with other statistics.
    """
    same = (start.autoencoder.source, start.autoencoder.revision) == (
        recipe.autoencoder.source,
        recipe.autoencoder.revision,
    )
    if start_latents is not None:
        same = start_latents.autoencoder == autoencoder.fingerprint
    if not same:  # statistics of other latents do not apply
        return None
    if recipe.autoencoder.normalisation == "measured":
        return start_latents or statistics_from_affine(autoencoder.affine, autoencoder.fingerprint)
    if start_latents is not None:
        raise ValueError(
            "its weights read latents that were normalised by measured statistics (mean "
            f"{_format(start_latents.mean)}; deviation {_format(start_latents.std)}); "
            "autoencoder.normalisation weights would normalise them by others: give "
            "--autoencoder.normalisation measured, which takes those of init.run"
        )
    return None


def rms_note(
    measured: LatentStatistics, used: LatentStatistics | None, own: Autoencoder, source: str
) -> str | None:
    """A note on the latents of training images at the start of a run; None where they are usual.

    Args:
        measured: statistics of a sample of the images.
        used: statistics that the run normalises with; None = the autoencoder's own.
        own: the autoencoder with its own statistics.
        source: its name.
    """
    own_rms = measured.rms(own.affine)
    if used is not None and used.images:
        note = f"normalised by statistics of {used.images} images"
        if not own.has_statistics:
            return f"{note}, since {source} has none of its own"
        return f"{note}; with those of {source} their root mean square would be {own_rms:.2f}"
    rms = own_rms if used is None else measured.rms(used.affine)
    if is_usual_rms(rms):
        return None
    low, high = USUAL_RMS
    statistics, advice = f"those of {source}", "--autoencoder.normalisation measured makes it 1"
    if used is not None:
        statistics, advice = "the statistics of init.run", "its weights require them"
    return (
        f"normalised by {statistics}, their root mean square is {rms:.2f} on {measured.images} "
        f"images, outside {low} to {high}; noise schedules and learning rates are made for 1: "
        f"{advice}"
    )


def is_usual_rms(rms: float) -> bool:
    """Whether a root mean square of normalised latents is in the usual range."""
    low, high = USUAL_RMS
    return low <= rms <= high


def _format(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:.3g}" for number in numbers)

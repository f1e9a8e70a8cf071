# SPDX-License-Identifier: Apache-2.0
"""Disk space that a start takes: caches, checkpoints and snapshots of averages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pippin.data.cache.manifest import known_ingredients
from pippin.data.config import NoDataConfig
from pippin.data.folder.listing import Entry
from pippin.data.folder.metadata_columns import CLASS, MAIN
from pippin.planning.data_sizes import feature_bytes, latent_bytes, text_bytes
from pippin.recipes.recipe import Recipe
from pippin.runs.folder import RunFolder

if TYPE_CHECKING:
    from pippin.preflight.start import Start


@dataclass(frozen=True, kw_only=True)
class DiskNeed:
    """Disk space that a training takes."""

    what: str
    folder: Path
    """Folder that holds it, which may be missing yet."""
    num_bytes: int
    shared: tuple[str, ...] | None = None
    """Key of a cache, which trainings with the same key share; None = each has its own."""
    ingredients: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Known ingredients of a latent cache: a finished cache with other ones is not this one."""


def latents_need(start: "Start") -> DiskNeed:
    """Disk space of the latent cache."""
    cache, data = start.located.cache, start.located.data
    return DiskNeed(
        what=f"the latents of {start.num_images:,} images in {data_views(start.recipe)} views",
        folder=Path(cache.folder),
        num_bytes=start.num_images * latent_bytes(start.recipe, start.latent_shape),
        shared=("latents", repr(data), start.located.autoencoder.source, cache.dtype),
        ingredients=_known(start),
    )


def _known(start: "Start") -> dict[str, Any]:
    """Ingredients of the latent cache that are known before the images are read."""
    data = start.located.data
    if not start.num_images or isinstance(data, NoDataConfig):
        return {}
    return known_ingredients(data, start.autoencoder, start.located.cache)


def features_need(start: "Start") -> DiskNeed:
    """Disk space of the features of REPA; none where it is off."""
    cache, repa = start.located.cache, start.located.train.repa
    return DiskNeed(
        what=f"REPA's features of {start.num_images:,} images in {data_views(start.recipe)} views",
        folder=Path(cache.folder),
        num_bytes=start.num_images * feature_bytes(start.recipe, start.latent_shape),
        shared=("features", repr(start.located.data), repr(repa)),
        ingredients={n: value for n, value in _known(start).items() if n.startswith("data.")},
    )


def captions_need(start: "Start") -> DiskNeed:
    """Disk space of the features of captions; none for a model without text."""
    text, kinds = start.located.text, len(start.located.text.captions)
    count = num_captions(start) if start.is_text else 0
    return DiskNeed(
        what=f"the features of {count:,} captions",
        folder=Path(text.folder),
        num_bytes=count * text_bytes(start.recipe) // kinds,
        shared=("captions", repr(start.located.data), repr(text)),
    )


def run_needs(start: "Start", run: RunFolder) -> list[DiskNeed]:
    """Disk space of the checkpoints and snapshots of this run, or of one of the same size."""
    train = start.recipe.train
    each, count = start.stored_sizes.checkpoint, train.max_checkpoints + 1
    needs = [
        DiskNeed(
            what=f"{count} checkpoints of {each / 1e9:.3g} GB, one of them being written",
            folder=run.checkpoints,
            num_bytes=count * each,
        )
    ]
    if snapshots := train.num_snapshots:
        size = start.stored_sizes.snapshot
        needs.append(
            DiskNeed(
                what=f"{snapshots} snapshots of averages of {size / 1e9:.3g} GB",
                folder=run.snapshots,
                num_bytes=snapshots * size,
            )
        )
    return needs


def num_captions(start: "Start") -> int:
    """Number of different captions; for embedded images an upper bound."""
    kinds = start.located.text.captions
    if start.listing is None:
        return start.num_images * len(kinds)
    return len({_text_of(entry, kind) for entry in start.listing.entries for kind in kinds})


def data_views(recipe: Recipe) -> int:
    """Number of cached views of each image."""
    return 0 if isinstance(recipe.data, NoDataConfig) else recipe.data.views


def _text_of(entry: Entry, kind: str) -> str:
    """Caption of a kind, with the same replacements as in training."""
    own = entry.captions.get(MAIN) or entry.label
    return entry.label if kind == CLASS else entry.captions.get(kind) or own

# SPDX-License-Identifier: Apache-2.0
"""Latents of images that were encoded from shards: their build, and their use by a run."""

from pathlib import Path

from rich.console import Console

from pippin.config import ConfigError
from pippin.data.cache.builders import Builders
from pippin.data.cache.manifest import MANIFEST, Verify
from pippin.data.cache.streamed import StreamedLatents, streamed_folder, streamed_ingredients
from pippin.data.config import CacheConfig, ImagesConfig
from pippin.data.folder.image_table import has_table
from pippin.data.importing.config import ShardsConfig
from pippin.data.importing.parts import PARTS
from pippin.data.moments import Encoder
from pippin.data.sources.images import ImageFolderSource
from pippin.data.streaming.build import build_streamed
from pippin.data.streaming.shard_source import recorded_identity, recorded_source
from pippin.data.streaming.tables import SUMMARY
from pippin.encoders.autoencoder import Autoencoder
from pippin.recipes.checks import check_resolution
from pippin.recipes.recipe import Recipe
from pippin.system.device import resolve_device
from pippin.system.progress import Progress
from pippin.system.text import print_above_progress


def streamed_moments(
    source: ImageFolderSource, encoder: Encoder, cache: CacheConfig, verify: Verify
) -> StreamedLatents:
    """Latents of images of one size that were encoded from shards.

    Raises:
        ConfigError: ``cache.enabled`` is off.
        CacheError: there are no latents of these settings; the message says what to type.
    """
    assert source.table is not None
    if not cache.enabled:
        raise ConfigError(
            f"cache.enabled False encodes image files, and {source.config.path} has files of a "
            "sample only: leave it out, or import the shards (`pippin data import`)"
        )
    size = source.config.view_size(source.original_size(0))
    identity = recorded_identity(Path(source.config.path))
    ingredients = streamed_ingredients(source.config, encoder, cache, identity)
    return StreamedLatents.open(source.table, size, ingredients, cache, verify)


def find_shards_config(recipe: Recipe, given: ShardsConfig | None) -> ShardsConfig | None:
    """Shards to encode: those given, or those that ``data.path`` was prepared from.

    Raises:
        ConfigError: shards for a recipe without a folder of images.
    """
    data = recipe.data
    if given is not None and not (isinstance(data, ImagesConfig) and data.path):
        raise ConfigError(
            "--shards.source needs a recipe folder/... or paper/... with --data.path FOLDER, "
            "which gets the table of images and a sample of their files"
        )
    if given is not None or not isinstance(data, ImagesConfig) or not data.path:
        return given
    return recorded_source(Path(data.path))


def encode_shards(
    recipe: Recipe, shards: ShardsConfig, builders: Builders, console: Console, *, given: bool
) -> None:
    """Encode the shards of ``data.path`` that have no latents of these settings.

    Args:
        recipe: settings of the views, the autoencoder and the cache.
        shards: source and columns.
        builders: role of this process.
        console: for progress and messages.
        given: the user named the source; otherwise it is read only if latents are missing, so
            that a prepared folder can be used where its source cannot be reached.

    Raises:
        ConfigError, OSError: see :func:`build_streamed`.
    """
    data, device = recipe.data, resolve_device(recipe.train.device)
    assert isinstance(data, ImagesConfig)
    autoencoder = Autoencoder.load(recipe.autoencoder, device=device)
    check_resolution(recipe, autoencoder.factor)
    if not given and _is_complete(data, recipe.cache, autoencoder):
        return
    builders.wait()  # rank 0 verifies existing latents first
    title, shown = "encoding shards", builders.is_main
    with Progress(console, title, unit="shards", resumes=True, shown=shown) as progress:
        build_streamed(
            shards,
            data,
            recipe.cache,
            autoencoder,
            device=device,
            threads=recipe.train.workers,
            verify=builders.verify,
            ready=builders.ready,
            progress=progress.update,
            say=lambda text: print_above_progress(console, text, label="shards:"),
        )
    if builders.is_main:
        text = (Path(data.path) / PARTS / SUMMARY).read_text(encoding="utf-8").strip()
        print_above_progress(console, text, label="shards:")


def _is_complete(data: ImagesConfig, cache: CacheConfig, autoencoder: Autoencoder) -> bool:
    if not has_table(Path(data.path)):
        return False
    identity = recorded_identity(Path(data.path))
    ingredients = streamed_ingredients(data, autoencoder, cache, identity)
    return (streamed_folder(cache, ingredients) / MANIFEST).is_file()

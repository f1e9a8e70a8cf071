# SPDX-License-Identifier: Apache-2.0
"""A training that is about to start, as the checks before it see it."""

import shutil
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from pippin.conditioning.config import TextSemantic
from pippin.config import Config, ConfigError
from pippin.data.cache.cache_folders import list_caches
from pippin.data.config import ImagesConfig, NoDataConfig
from pippin.data.folder.image_table import has_table
from pippin.data.folder.listing import Listing, list_images
from pippin.data.importing.config import ShardsConfig
from pippin.data.source import ImageSource
from pippin.data.sources.factory import build_source
from pippin.encoders.autoencoder import Autoencoder
from pippin.planning.devices import Cluster, device_named
from pippin.planning.plan import Plan, StoredSizes, plan, planned_memory, stored_sizes
from pippin.preflight.captioning import with_planned_captions
from pippin.preflight.disk import (
    DiskNeed,
    captions_need,
    features_need,
    latents_need,
    run_needs,
)
from pippin.recipes.recipe import Recipe, Shape
from pippin.runs.checkpoint_folders import list_checkpoints
from pippin.runs.folder import Resume, RunFolder
from pippin.system.device import resolve_device


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """GPU of a rank."""

    name: str
    memory: int
    """Bytes, as CUDA reports them."""


class Start:
    """Start of a training, of a cache build (``run`` None), or of a run of a study.

    Args:
        recipe: the recipe.
        located: the recipe with resolved paths, see :func:`pippin.runs.folder.locate`.
        run: run folder; None = only the caches are built.
        resume: as in ``pippin train``.
        world_size: number of ranks.
        ignore_plan: start although memory or disk do not suffice by the plan.
        elsewhere: the run is computed on another machine, whose GPU is not known here.
        shards: the shards that hold the images, where none is read yet: nothing is known of them.
        shared: image folders and autoencoders that other starts of the same command have read.
        captioner: model that captions images without a caption before the start; None = none.
    """

    def __init__(
        self,
        recipe: Recipe,
        located: Recipe,
        run: RunFolder | None,
        *,
        resume: Resume = False,
        world_size: int = 1,
        ignore_plan: bool = False,
        elsewhere: bool = False,
        shards: ShardsConfig | None = None,
        shared: dict[Config, Any] | None = None,
        captioner: str | None = None,
    ) -> None:
        self.recipe, self.located, self.run = recipe, located, run
        self.resumes = run is not None and run.resumes(resume)
        self.world_size, self.ignore_plan = world_size, ignore_plan
        self.elsewhere, self.shards, self.captioner = elsewhere, shards, captioner
        self._shared: dict[Config, Any] = {} if shared is None else shared

    @cached_property
    def listing(self) -> Listing | None:
        """Names and captions of an image folder, as the captioner will leave them."""
        if self.captioner is None or self.unchanged_listing is None:
            return self.unchanged_listing
        return with_planned_captions(self.unchanged_listing, self.captioner)

    @cached_property
    def unchanged_listing(self) -> Listing | None:
        """The listing as it is; None for embedded images and those of shards."""
        data = self.located.data
        if not isinstance(data, ImagesConfig) or self.shards is not None:
            return None
        if has_table(Path(data.path)):
            return None
        if data not in self._shared:
            self._shared[data] = list_images(data)
        listing: Listing = self._shared[data]
        return listing

    @cached_property
    def is_finished(self) -> bool:
        """Whether the run had its last checkpoint already, at the first reading of this value."""
        return self.run is not None and has_last_checkpoint(self.run, self.recipe.train.images)

    @property
    def is_text(self) -> bool:
        """Whether the model reads text."""
        return isinstance(self.recipe.conditioning.semantic, TextSemantic)

    @cached_property
    def source(self) -> ImageSource:
        """Training images that are no folder of files.

        Raises:
            ConfigError: the recipe has no images.
        """
        if isinstance(self.located.data, NoDataConfig):
            raise ConfigError(
                "this recipe is of a model without images (data.kind none) and cannot be trained: "
                "take a recipe with images and start it from this model with --init.run"
            )
        return build_source(self.located.data, "train")

    @cached_property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder, on the CPU."""
        config = self.located.autoencoder
        if config not in self._shared:
            self._shared[config] = Autoencoder.load(config)
        autoencoder: Autoencoder = self._shared[config]
        return autoencoder

    @property
    def latent_shape(self) -> Shape:
        """(channels, height, width), by the autoencoder's files."""
        return self.autoencoder.latent_shape(self.recipe.data.resolution)

    @cached_property
    def num_classes(self) -> int:
        """Number of classes: an upper bound for an image folder, before its images are read; 1 for
        unread ones."""
        if self.shards is not None:
            return 1
        if self.listing is None:
            return len(self.source.class_names)
        return max(1, len({entry.label for entry in self.listing.entries}))

    @cached_property
    def num_images(self) -> int:
        """Number of training images, about: held-out ones of a folder count by their share, and
        unread ones not at all."""
        data = self.located.data
        if self.shards is not None:
            return 0
        if self.listing is None or not isinstance(data, ImagesConfig):
            return len(self.source)
        count = round(len(self.listing.entries) * (1 - data.held_out_share))
        return min(count, data.max_pictures or count)

    # Memory

    @cached_property
    def gpu(self) -> Gpu | None:
        """GPU of this rank; None on a CPU."""
        device = resolve_device(self.recipe.train.device)
        if device.type != "cuda":
            return None
        facts = torch.cuda.get_device_properties(device)
        return Gpu(name=facts.name, memory=facts.total_memory)

    @property
    def cluster(self) -> Cluster:
        """The devices of this start; on a CPU the default ones, for sizes."""
        if self.gpu is None:
            return Cluster(devices=self.world_size)
        name = device_named(self.gpu.name) or Cluster().device
        return Cluster(devices=self.world_size, device=name, memory_gb=self.gpu.memory / 1e9)

    @property
    def knows_speed(self) -> bool:
        """Whether the peak of the device is known, without which there are no hours."""
        return self.gpu is not None and device_named(self.gpu.name) is not None

    @cached_property
    def memory(self) -> int:
        """Planned bytes of each device, with the recipe's own settings."""
        shape, classes = self.latent_shape, self.num_classes
        return planned_memory(self.recipe, self.cluster, latent_shape=shape, num_classes=classes)

    @cached_property
    def plan(self) -> Plan:
        """The plan of all layouts, which takes seconds."""
        return plan(
            self.recipe,
            self.cluster,
            latent_shape=self.latent_shape,
            num_classes=self.num_classes,
            images=self.num_images,
        )

    # Disk

    @cached_property
    def stored_sizes(self) -> StoredSizes:
        """Planned sizes of a checkpoint and of a snapshot of averages."""
        return stored_sizes(self.recipe, self.latent_shape, self.num_classes)

    @cached_property
    def caches_before(self) -> frozenset[Path]:
        """Caches at the first reading of this value, which the checks make."""
        folders = {Path(self.located.cache.folder), Path(self.located.text.folder)}
        return frozenset(cache.path for folder in folders for cache in list_caches(folder))

    @cached_property
    def disk_needs(self) -> tuple[DiskNeed, ...]:
        """Disk space of caches, and of what a run keeps that is not trained to its end."""
        needs = [latents_need(self), features_need(self), captions_need(self)]
        if self.run is not None and not self.is_finished:
            needs += run_needs(self, self.run)
        return tuple(need for need in needs if need.num_bytes)


def has_last_checkpoint(run: RunFolder, images: int) -> bool:
    """Whether a run is trained to its end."""
    kept = list_checkpoints(run.checkpoints)
    return bool(kept) and int(kept[0].name) >= images


def free_bytes(folder: Path) -> int:
    """Free bytes of the disk of a folder, which may be missing yet; the largest number for a file
    system that does not state its size."""
    usage = shutil.disk_usage(nearest_existing(folder))
    return usage.free if usage.total else sys.maxsize


def nearest_existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    absolute = folder.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())

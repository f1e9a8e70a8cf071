# SPDX-License-Identifier: Apache-2.0
"""Training plan of a recipe: FLOPs, memory, hours, disk. It is computed on the meta device and
needs no images, no weights and no accelerator. docs/reference/plans.md has the formulas."""

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from pippin.conditioning.config import ConditioningConfig
from pippin.denoisers.config import DenoiserConfig
from pippin.diffusion.config import MeanFlowConfig
from pippin.evaluation.metrics.cost import denoiser_flops, training_flops
from pippin.model import LatentDenoiser
from pippin.planning.activations import Activations, activations
from pippin.planning.data_sizes import (
    feature_bytes,
    latent_bytes,
    num_classes_of,
    num_training_images,
    text_bytes,
)
from pippin.planning.devices import Cluster
from pippin.planning.fitting import FittingOption, fitting_options
from pippin.planning.placement import (
    CheckpointingPlan,
    Layout,
    ModelFootprint,
    Placement,
    estimate_placement,
    layout_of,
    placement_of,
)
from pippin.planning.states import States, training_model, training_states
from pippin.recipes.checks import check_recipe
from pippin.recipes.recipe import Recipe, Shape, latent_shape_of
from pippin.training.blocks import checkpoint_blocks
from pippin.training.config import TrainConfig
from pippin.training.masking.config import MaskingConfig
from pippin.training.repa.config import RepaConfig


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Estimated cost of training a recipe."""

    cluster: Cluster
    latent_shape: Shape
    num_classes: int
    parameters: int
    """All that are trained, also those of REPA's projector."""
    batch_size: int
    """Global."""
    local_batch: int
    """Images of a step on each device."""
    micro_batch: int
    """Images of the local batch that are computed at once."""
    steps: int
    precision: str
    forward_flops: int
    """FLOPs of one image; a multiply-accumulate counts as two."""
    training_flops: int
    """FLOPs of one image, forward and backward, without recomputation; the mean over a run that
    masks tokens for a part of it, with those of MeanFlow."""
    step_flops: int
    """FLOPs of the global batch, without the optimizer."""
    optimizer_flops: int
    """FLOPs of a step on each device: Muon's matrix products."""
    placements: tuple[Placement, ...]
    options: tuple[FittingOption, ...]
    """Settings that fit, fewest hours first."""
    checkpoint_bytes: int
    """Size of one checkpoint."""
    checkpoints_bytes: int
    """Size of the checkpoints that are kept, and of the one being written."""
    snapshots: int
    """Number of snapshots of averages, all of which are kept."""
    snapshot_bytes: int
    """Size of one snapshot."""
    images: int | None
    """Number of images; None = unknown."""
    latent_bytes: int
    """Size of the latent cache for one image."""
    text_bytes: int
    """Size of the caption cache for one image."""
    feature_bytes: int = 0
    """Size of the cache of REPA's features for one image."""

    def chosen(self, train: TrainConfig) -> Placement:
        """Placement of the layout and checkpointing that the recipe itself sets."""
        layout = layout_of(train, self.cluster.devices)
        own = (layout, train.gradient_checkpointing)
        return next(p for p in self.placements if (p.layout, p.checkpointing) == own)

    @property
    def cache_bytes(self) -> int | None:
        """Size of all caches; None where the number of images is unknown."""
        if self.images is None:
            return None
        return self.images * (self.latent_bytes + self.text_bytes + self.feature_bytes)

    def to_json(self) -> dict[str, Any]:
        """Plain values; bytes, FLOPs, hours."""
        placements = [asdict(p) | {"memory": p.memory} for p in self.placements]
        return asdict(self) | {"placements": placements, "cache_bytes": self.cache_bytes}


def plan(
    recipe: Recipe,
    cluster: Cluster | None = None,
    *,
    latent_shape: Shape | None = None,
    num_classes: int | None = None,
    images: int | None = None,
) -> Plan:
    """Estimate the cost of training a recipe.

    Args:
        recipe: the recipe to train.
        cluster: devices; None = eight H100.
        latent_shape: (channels, height, width); None = by the autoencoder's name, see
            :func:`pippin.recipes.recipe.factor_and_channels`.
        num_classes: None = see :func:`pippin.planning.data_sizes.num_classes_of`.
        images: number of training images; None = see
            :func:`pippin.planning.data_sizes.num_training_images`.

    Raises:
        ConfigError: as training does before it opens data and weights: settings that do not fit
            each other, and a batch that the devices do not divide.
        ValueError: a resolution that the autoencoder's factor does not divide.
    """
    check_recipe(recipe)
    cluster, train = cluster or Cluster(), recipe.train
    shape, local = latent_shape or latent_shape_of(recipe), train.local_batch(cluster.devices)
    classes = num_classes or num_classes_of(recipe)
    images = num_training_images(recipe) if images is None else images
    model = _model(recipe, shape, classes)
    states = training_states(model, train)
    recomputed = (0, train.gradient_checkpointing or 1)
    options = [_checkpointing_plan(recipe, shape, every) for every in recomputed]
    footprint = _footprint(model, states, options[0].activations)
    layouts: tuple[Layout, ...] = ("DDP", "FSDP") if cluster.devices > 1 else ("one device",)
    return Plan(
        cluster=cluster,
        latent_shape=shape,
        num_classes=classes,
        parameters=sum(p.numel() for p in model.parameters()),
        batch_size=train.batch_size,
        local_batch=local,
        micro_batch=train.micro_batch(local),
        steps=math.ceil(train.images / train.batch_size),
        precision=train.precision,
        forward_flops=denoiser_flops(model, shape),
        training_flops=options[0].flops,
        step_flops=options[0].flops * train.batch_size,
        optimizer_flops=states.optimizer_flops,
        placements=_placements(train, cluster, footprint, layouts, options),
        options=fitting_options(train, cluster, footprint, layouts, options),
        checkpoint_bytes=states.checkpoint,
        checkpoints_bytes=(train.max_checkpoints + 1) * states.checkpoint,
        snapshots=train.num_snapshots,
        snapshot_bytes=_snapshot_size(train, states),
        images=images,
        latent_bytes=latent_bytes(recipe, shape),
        text_bytes=text_bytes(recipe),
        feature_bytes=feature_bytes(recipe, shape),
    )


def _placements(
    train: TrainConfig,
    cluster: Cluster,
    footprint: ModelFootprint,
    layouts: tuple[Layout, ...],
    options: list[CheckpointingPlan],
) -> tuple[Placement, ...]:
    """Each layout with and without recomputation."""
    return tuple(
        estimate_placement(train, cluster, footprint, layout, option)
        for layout in layouts
        for option in options
    )


def planned_memory(
    recipe: Recipe,
    cluster: Cluster,
    *,
    latent_shape: Shape | None = None,
    num_classes: int | None = None,
) -> int:
    """Estimate the bytes of each device with the recipe's own layout, micro-batch and
    checkpointing; faster than :func:`plan`, which compares all and counts FLOPs.

    Args:
        recipe: the recipe to train.
        cluster: the devices.
        latent_shape, num_classes: as in :func:`plan`.

    Raises:
        ConfigError, ValueError: as :func:`plan`.
    """
    shape, train = latent_shape or latent_shape_of(recipe), recipe.train
    classes = num_classes or num_classes_of(recipe)
    model = _model(recipe, shape, classes)
    full = _activations(recipe, shape, 0)
    every = train.gradient_checkpointing
    saved = _activations(recipe, shape, every) if every else full
    footprint = _footprint(model, training_states(model, train), full)
    return placement_of(train, cluster, footprint, CheckpointingPlan(every, saved, 0)).memory


class StoredSizes(NamedTuple):
    """Bytes of files that a run stores."""

    checkpoint: int
    snapshot: int
    """One snapshot of averages."""


def stored_sizes(recipe: Recipe, shape: Shape, num_classes: int) -> StoredSizes:
    """Sizes of a checkpoint and of a snapshot, without estimating activations."""
    model = _model(recipe, shape, num_classes)
    states = training_states(model, recipe.train)
    return StoredSizes(states.checkpoint, _snapshot_size(recipe.train, states))


def _model(recipe: Recipe, shape: Shape, num_classes: int) -> LatentDenoiser:
    configs = recipe.conditioning, recipe.denoiser
    return training_model(*configs, num_classes, shape[0], recipe.train.repa)


def _snapshot_size(train: TrainConfig, states: States) -> int:
    """Bytes of one snapshot; each of its averages is as large as any other."""
    return len(train.snapshot_profiles) * states.ema // max(1, len(train.averages))


def _activations(recipe: Recipe, shape: Shape, every: int) -> Activations:
    return activations(
        recipe.conditioning,
        recipe.denoiser,
        shape,
        precision=recipe.train.precision,
        every=every,
        repa=recipe.train.repa,
        mask_ratio=recipe.train.masking.lowest_ratio,
    )


def _checkpointing_plan(recipe: Recipe, shape: Shape, every: int) -> CheckpointingPlan:
    configs = recipe.conditioning, recipe.denoiser
    losses = recipe.train.repa, recipe.train.masking, recipe.diffusion.meanflow
    flops = _training_flops(*configs, shape, every, *losses)
    return CheckpointingPlan(every, _activations(recipe, shape, every), flops)


@lru_cache(maxsize=16)
def _training_flops(
    conditioning: ConditioningConfig,
    denoiser: DenoiserConfig,
    shape: Shape,
    every: int,
    repa: RepaConfig,
    masking: MaskingConfig,
    meanflow: MeanFlowConfig,
) -> int:
    """FLOPs of training on one image, with recomputation; the mean over the run."""
    model = training_model(conditioning, denoiser, 1, shape[0], repa)
    checkpoint_blocks(model.denoiser.blocks, every)
    return training_flops(model, shape, masking=masking, meanflow=meanflow)


def _footprint(model: LatentDenoiser, states: States, full: Activations) -> ModelFootprint:
    blocks = [sum(p.numel() for p in block.parameters()) for block in model.denoiser.blocks]
    outside = sum(p.numel() for p in model.parameters()) - sum(blocks)
    return ModelFootprint(states, full, max(blocks), outside)

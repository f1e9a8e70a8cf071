# SPDX-License-Identifier: Apache-2.0
"""What training a recipe would take: FLOPs, memory, hours, disk. Computed on the meta device, so
that no pictures, no weights and no accelerator are needed. The formulas are in
docs/reference/plans.md."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from pippin.model import LatentDenoiser
from pippin.recipes.latents import Shape, latent_shape_of
from pippin.recipes.recipe import Recipe
from pippin.run.activations import Activations, activations
from pippin.run.checks import check_recipe
from pippin.run.cost import denoiser_flops, meta_model
from pippin.run.devices import Cluster
from pippin.run.placement import Layout, Placement, Way, Whole, place
from pippin.run.states import (
    States,
    classes_of,
    latent_bytes,
    pictures_of,
    text_bytes,
    training_states,
)
from pippin.training.recompute import recompute_blocks


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a recipe would take."""

    cluster: Cluster
    latent_shape: Shape
    num_classes: int
    parameters: int
    batch_size: int
    """Global."""
    local_batch: int
    """Images of a step on each device."""
    micro_batch: int
    """Of these, how many are computed at once."""
    steps: int
    precision: str
    forward_flops: int
    """Of one image; a multiply-accumulate is two."""
    training_flops: int
    """Of one image, forward and backward, nothing computed again."""
    step_flops: int
    """Of the global batch, without the optimizer."""
    optimizer_flops: int
    """Of a step on each device: Muon's products."""
    placements: tuple[Placement, ...]
    checkpoint_bytes: int
    """Of one checkpoint."""
    checkpoints_bytes: int
    """Of those that stay, and the one in writing."""
    pictures: int | None
    """None = not known."""
    latent_bytes: int
    """Of the latent cache, for one picture."""
    text_bytes: int
    """Of the cache of captions, for one picture."""

    @property
    def cache_bytes(self) -> int | None:
        """Of both caches; None where the number of pictures is not known."""
        if self.pictures is None:
            return None
        return self.pictures * (self.latent_bytes + self.text_bytes)

    def to_json(self) -> dict[str, Any]:
        """Plain values; bytes, FLOPs, hours."""
        placements = [asdict(one) | {"memory": one.memory} for one in self.placements]
        return asdict(self) | {"placements": placements, "cache_bytes": self.cache_bytes}


def plan(
    recipe: Recipe,
    cluster: Cluster | None = None,
    *,
    latent_shape: Shape | None = None,
    num_classes: int | None = None,
    pictures: int | None = None,
) -> Plan:
    """What training a recipe would take.

    Args:
        recipe: what is trained.
        cluster: on what; None = eight H100.
        latent_shape: (channels, height, width); None = by the autoencoder's name, see
            :func:`pippin.recipes.latents.factor_and_channels`.
        num_classes: None = see :func:`pippin.run.states.classes_of`.
        pictures: of the training set; None = see :func:`pippin.run.states.pictures_of`.

    Raises:
        ConfigError: what training refuses before it looks at data and weights: parts that do not
            fit each other, and a batch that the devices do not divide.
        ValueError: a resolution that the autoencoder's factor does not divide.
    """
    check_recipe(recipe)
    cluster, train = cluster or Cluster(), recipe.train
    local = train.local_batch(cluster.devices)
    shape = latent_shape or latent_shape_of(recipe)
    classes = num_classes or classes_of(recipe)
    model = meta_model(recipe.conditioning, recipe.denoiser, classes, shape[0])
    states = training_states(model, train)
    ways = [_way(recipe, shape, every) for every in (0, train.gradient_checkpointing or 1)]
    whole, training = _whole(model, states, ways[0].kept), ways[0].flops
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
        training_flops=training,
        step_flops=training * train.batch_size,
        optimizer_flops=states.optimizer_flops,
        placements=tuple(
            place(train, cluster, whole, layout, way) for layout in layouts for way in ways
        ),
        checkpoint_bytes=states.checkpoint,
        checkpoints_bytes=(train.keep_checkpoints + 1) * states.checkpoint,
        pictures=pictures if pictures is not None else pictures_of(recipe),
        latent_bytes=latent_bytes(recipe, shape),
        text_bytes=text_bytes(recipe),
    )


def _way(recipe: Recipe, shape: Shape, every: int) -> Way:
    conditioning, denoiser = recipe.conditioning, recipe.denoiser
    precision = recipe.train.precision
    kept = activations(conditioning, denoiser, shape, precision=precision, every=every)
    model = meta_model(conditioning, denoiser, 1, shape[0])
    recompute_blocks(model.denoiser.blocks, every)
    return Way(every, kept, denoiser_flops(model, shape, backward=True))


def _whole(model: LatentDenoiser, states: States, plain: Activations) -> Whole:
    blocks = [sum(p.numel() for p in block.parameters()) for block in model.denoiser.blocks]
    outside = sum(p.numel() for p in model.parameters()) - sum(blocks)
    return Whole(states, plain, max(blocks), outside)

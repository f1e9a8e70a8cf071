# SPDX-License-Identifier: Apache-2.0
"""What training a recipe would take: FLOPs, memory, hours, disk. Computed on the meta device, so
that no pictures, no weights and no accelerator are needed. The formulas are in docs/scaling.md."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from pippin.config import ConfigError
from pippin.model import LatentDenoiser
from pippin.recipes.latents import Shape, latent_shape_of
from pippin.recipes.recipe import Recipe
from pippin.run.activations import Activations, activations
from pippin.run.cost import denoiser_flops, meta_model
from pippin.run.devices import Cluster
from pippin.run.states import (
    FP32,
    States,
    classes_of,
    latent_bytes,
    pictures_of,
    text_bytes,
    training_states,
)
from pippin.training.recompute import recompute_blocks

Layout = Literal["one device", "DDP", "FSDP"]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """One way to lay a training step on the devices; bytes are those of each device."""

    layout: Layout
    """DDP: every device holds everything. FSDP: each holds its share, and gathers one block's
    weights at a time."""
    checkpointing: int
    """Every n-th block computes its activations again; 0 = none."""
    weights: int
    gradients: int
    optimizer: int
    ema: int
    activations: int
    """At the local batch."""
    passing: int
    """At the worst moment: a block computed again, bf16 copies of weights, gathered blocks."""
    fits: bool
    """Whether the sum is at most what the device has without the headroom."""
    largest_local_batch: int
    """Images of each device that still fit; 0 = not even one."""
    flops_per_step: int
    """Of each device, blocks computed again and the optimizer's products included."""
    hours: float
    """Of the whole recipe, on all devices together, at the assumed utilisation."""
    device_hours: float

    @property
    def memory(self) -> int:
        """Bytes of each device."""
        states = self.weights + self.gradients + self.optimizer + self.ema
        return states + self.activations + self.passing


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
        ConfigError: a batch that the devices do not divide. Whether parts fit each other is for
            training to say.
        ValueError: a resolution that the autoencoder's factor does not divide.
    """
    cluster, train = cluster or Cluster(), recipe.train
    if train.batch_size % cluster.devices:
        raise ConfigError(
            f"train.batch_size {train.batch_size} is not divided by {cluster.devices} devices: "
            "choose another number of either"
        )
    shape = latent_shape or latent_shape_of(recipe)
    classes = num_classes or classes_of(recipe)
    model = meta_model(recipe.conditioning, recipe.denoiser, classes, shape[0])
    states = training_states(model, train)
    forward = denoiser_flops(model, shape)
    ways = [_Way(recipe, shape, every) for every in (0, train.gradient_checkpointing or 1)]
    training = ways[0].flops
    layouts: tuple[Layout, ...] = ("DDP", "FSDP") if cluster.devices > 1 else ("one device",)
    return Plan(
        cluster=cluster,
        latent_shape=shape,
        num_classes=classes,
        parameters=sum(p.numel() for p in model.parameters()),
        batch_size=train.batch_size,
        local_batch=train.batch_size // cluster.devices,
        steps=math.ceil(train.images / train.batch_size),
        precision=train.precision,
        forward_flops=forward,
        training_flops=training,
        step_flops=training * train.batch_size,
        optimizer_flops=states.optimizer_flops,
        placements=tuple(
            _place(recipe, cluster, states, layout, way, ways[0].kept, _blocks(model))
            for layout in layouts
            for way in ways
        ),
        checkpoint_bytes=states.checkpoint,
        checkpoints_bytes=(train.keep_checkpoints + 1) * states.checkpoint,
        pictures=pictures if pictures is not None else pictures_of(recipe),
        latent_bytes=latent_bytes(recipe, shape),
        text_bytes=text_bytes(recipe),
    )


class _Way:
    """What one choice of gradient checkpointing keeps and computes."""

    def __init__(self, recipe: Recipe, shape: Shape, every: int) -> None:
        conditioning, denoiser = recipe.conditioning, recipe.denoiser
        self.every = every
        self.kept = activations(
            conditioning, denoiser, shape, precision=recipe.train.precision, every=every
        )
        model = meta_model(conditioning, denoiser, 1, shape[0])
        recompute_blocks(model.denoiser.blocks, every)
        self.flops = denoiser_flops(model, shape, backward=True)
        """Of one image, what is computed again included."""


class _Blocks(NamedTuple):
    """Numbers in the model's weights, as FSDP divides them."""

    largest: int
    outside: int
    """In no block: they stay gathered from forward to backward."""


def _blocks(model: LatentDenoiser) -> _Blocks:
    blocks = [sum(p.numel() for p in block.parameters()) for block in model.denoiser.blocks]
    return _Blocks(max(blocks), sum(p.numel() for p in model.parameters()) - sum(blocks))


def _place(
    recipe: Recipe,
    cluster: Cluster,
    states: States,
    layout: Layout,
    way: _Way,
    plain: Activations,
    blocks: _Blocks,
) -> Placement:
    """Memory and time of one way."""
    train = recipe.train
    local = train.batch_size // cluster.devices
    share = cluster.devices if layout == "FSDP" else 1
    held = [math.ceil(x / share) for x in (states.weights, states.gradients)]
    held += [math.ceil(x / share) for x in (states.optimizer, states.ema)]
    item = 2 if train.precision == "bf16" else FP32
    # Gathered: the block at work, the next one, its gradients, and those on their way in fp32.
    gathered = blocks.largest * (3 * item + FP32) + blocks.outside * FP32
    always = gathered if layout == "FSDP" else 0
    copies = 0 if layout == "FSDP" else plain.fixed  # FSDP's gathered weights are bf16 themselves
    again = plain.largest_block if way.every else 0
    # Autocast's copies live to the end of the forward pass at least, and for blocks that are not
    # computed again to the end of the backward pass; the largest block counts in the latter only.
    late = copies if way.every != 1 else 0
    free = cluster.usable - sum(held) - always
    fitting = min(
        (free - copies) // max(1, way.kept.per_image),
        (free - late) // max(1, way.kept.per_image + again),
    )
    passing = always + max(copies, late + again * local)
    activation = way.kept.per_image * local
    flops = way.flops * local + states.optimizer_flops
    hours = _hours(way.flops * local, states.optimizer_flops, recipe, cluster)
    return Placement(
        layout=layout,
        checkpointing=way.every,
        weights=held[0],
        gradients=held[1],
        optimizer=held[2],
        ema=held[3],
        activations=activation,
        passing=passing,
        fits=sum(held) + activation + passing <= cluster.usable,
        largest_local_batch=max(0, fitting),
        flops_per_step=flops,
        hours=hours,
        device_hours=hours * cluster.devices,
    )


def _hours(model_flops: int, optimizer_flops: int, recipe: Recipe, cluster: Cluster) -> float:
    """Of the whole recipe; Muon's products are in fp32, outside autocast."""
    train = recipe.train
    seconds = model_flops / cluster.speed(train.precision) + optimizer_flops / cluster.speed(
        "fp32"
    )
    return math.ceil(train.images / train.batch_size) * seconds / 3600

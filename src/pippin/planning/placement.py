# SPDX-License-Identifier: Apache-2.0
"""Memory and time of a training step on devices, for each parallel layout. The formulas are in
docs/reference/plans.md."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pippin.planning.activations import Activations
from pippin.planning.devices import Cluster
from pippin.planning.states import FP32, States
from pippin.training.config import TrainConfig

Layout = Literal["one device", "DDP", "FSDP"]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Estimate of one layout and checkpointing plan; bytes are per device."""

    layout: Layout
    """DDP: every device holds all states. FSDP: each holds a shard, and gathers the weights of one
    block at a time."""
    checkpointing: int
    """Every n-th block recomputes its activations; 0 = none."""
    weights: int
    gradients: int
    optimizer: int
    ema: int
    activations: int
    """For one micro-batch."""
    passing: int
    """Peak of temporary memory: a recomputed block, bf16 copies of weights, gathered blocks."""
    fits: bool
    """Whether the sum is at most the device's memory without the headroom."""
    largest_micro_batch: int
    """Largest micro-batch per device: as the whole local batch where that fits, otherwise beside
    the gradients that accumulate; 0 = not even one image."""
    flops_per_step: int
    """FLOPs of each device, with recomputation and the optimizer's matrix products."""
    hours: float
    """Duration of the whole training on all devices, at the assumed utilisation."""
    device_hours: float

    @property
    def memory(self) -> int:
        """Bytes of each device."""
        states = self.weights + self.gradients + self.optimizer + self.ema
        return states + self.activations + self.passing


class CheckpointingPlan(NamedTuple):
    """Memory and FLOPs of one choice of gradient checkpointing."""

    every: int
    activations: Activations
    flops: int
    """FLOPs of one image, with recomputation."""


class ModelFootprint(NamedTuple):
    """Sizes of a model that all placements share."""

    states: States
    full: Activations
    """Activations without recomputation."""
    largest_block: int
    """Number of weights in the largest block."""
    outside: int
    """Number of weights outside blocks: FSDP gathers these from forward to backward."""


def estimate_placement(
    train: TrainConfig,
    cluster: Cluster,
    footprint: ModelFootprint,
    layout: Layout,
    plan: CheckpointingPlan,
) -> Placement:
    """Estimate memory and time of one layout and checkpointing plan."""
    local = train.local_batch(cluster.devices)
    micro = train.micro_batch(local)
    states, states_once = (
        _device_states(footprint.states, layout, cluster.devices, accumulates=accumulates)
        for accumulates in (micro < local, False)
    )
    memory = _image_memory(footprint, layout, plan)
    activation, passing = plan.activations.per_image * micro, memory.passing(micro)
    largest = memory.largest(cluster.usable - sum(states_once))
    if largest < local:
        accumulated = _device_states(footprint.states, layout, cluster.devices, accumulates=True)
        largest = memory.largest(cluster.usable - sum(accumulated))
    hours = training_hours(train, cluster, plan.flops, footprint.states.optimizer_flops)
    return Placement(
        layout=layout,
        checkpointing=plan.every,
        weights=states.weights,
        gradients=states.gradients,
        optimizer=states.optimizer,
        ema=states.ema,
        activations=activation,
        passing=passing,
        fits=sum(states) + activation + passing <= cluster.usable,
        largest_micro_batch=largest,
        flops_per_step=plan.flops * local + footprint.states.optimizer_flops,
        hours=hours,
        device_hours=hours * cluster.devices,
    )


def placement_of(
    train: TrainConfig, cluster: Cluster, footprint: ModelFootprint, plan: CheckpointingPlan
) -> Placement:
    """Estimate for the layout and checkpointing that the settings themselves choose."""
    return estimate_placement(train, cluster, footprint, layout_of(train, cluster.devices), plan)


def layout_of(train: TrainConfig, devices: int) -> Layout:
    """Layout of ``train.parallel`` on a number of devices."""
    if devices == 1:
        return "one device"
    return "FSDP" if train.parallel == "fsdp" else "DDP"


def training_hours(
    train: TrainConfig, cluster: Cluster, image_flops: int, optimizer_flops: int
) -> float:
    """Estimate the hours of a whole training on all devices.

    Args:
        train: length, batch size, precision.
        cluster: devices and their utilisation.
        image_flops: FLOPs of one image, forward and backward.
        optimizer_flops: FLOPs of a step on each device: Muon's matrix products, always in bf16.
    """
    work = image_flops * train.local_batch(cluster.devices)
    seconds = work / cluster.speed(train.precision) + optimizer_flops / cluster.speed("bf16")
    return math.ceil(train.images / train.batch_size) * seconds / 3600


class _DeviceStates(NamedTuple):
    """Bytes that a device holds from step to step."""

    weights: int
    gradients: int
    optimizer: int
    ema: int


def _device_states(
    states: States, layout: Layout, devices: int, *, accumulates: bool
) -> _DeviceStates:
    """States on one device. Gradients that accumulate over micro-batches are unsharded on every
    device until the last one: DDP accumulates them beside its buffers for the all-reduce, and FSDP
    shards them only then."""
    shards = devices if layout == "FSDP" else 1
    parameters, gradients, optimizer, ema = (
        math.ceil(x / shards) for x in (states.gradients, *states[1:4])
    )
    if accumulates:
        gradients = (2 if layout == "DDP" else 1) * states.gradients
    buffers = states.weights - states.gradients  # these are never sharded
    return _DeviceStates(parameters + buffers, gradients, optimizer, ema)


class _ImageMemory(NamedTuple):
    """Bytes of the images that a device computes at once, and of temporary copies."""

    saved: int
    """Activations of one image, from forward to backward."""
    recomputed: int
    """Activations of one image in a recomputed block."""
    gathered: int
    """Weights that FSDP gathers, independent of the number of images."""
    copies: int
    """Autocast's copies of the weights, until the end of the forward pass."""
    late_copies: int
    """Copies that stay until the end of the backward pass, when a block may be recomputed."""

    def passing(self, count: int) -> int:
        """Peak of temporary memory."""
        return self.gathered + max(self.copies, self.late_copies + self.recomputed * count)

    def largest(self, free: int) -> int:
        """Largest number of images that fit; 0 = not even one."""
        free -= self.gathered
        forward = (free - self.copies) // max(1, self.saved)
        backward = (free - self.late_copies) // max(1, self.saved + self.recomputed)
        return max(0, min(forward, backward))


def _image_memory(
    footprint: ModelFootprint, layout: Layout, plan: CheckpointingPlan
) -> _ImageMemory:
    # FSDP gathers the current block, the next one, its gradients, and the gradients in flight.
    gathered = FP32 * (4 * footprint.largest_block + footprint.outside)
    copies = footprint.full.fixed
    return _ImageMemory(
        saved=plan.activations.per_image,
        recomputed=footprint.full.largest_block if plan.every else 0,
        gathered=gathered if layout == "FSDP" else 0,
        copies=copies,
        # The copies of recomputed blocks are freed after the forward pass.
        late_copies=copies if plan.every != 1 else 0,
    )

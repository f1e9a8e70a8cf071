# SPDX-License-Identifier: Apache-2.0
"""How a training step lies on devices: memory and time of each layout. The formulas are in
docs/reference/plans.md."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pippin.run.activations import Activations
from pippin.run.devices import Cluster
from pippin.run.states import FP32, States
from pippin.training.config import TrainConfig

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
    """At the micro-batch."""
    passing: int
    """At the worst moment: a block computed again, bf16 copies of weights, gathered blocks."""
    fits: bool
    """Whether the sum is at most what the device has without the headroom."""
    largest_micro_batch: int
    """Images that each device can compute at once: as its whole local batch where that fits,
    otherwise beside the gradients that accumulate; 0 = not even one."""
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


class Way(NamedTuple):
    """What one choice of gradient checkpointing keeps and computes."""

    every: int
    kept: Activations
    flops: int
    """Of one image, what is computed again included."""


class Whole(NamedTuple):
    """What every placement of a model divides or repeats."""

    states: States
    plain: Activations
    """Where nothing is computed again."""
    largest_block: int
    """Numbers in the weights of the block that has most."""
    outside: int
    """In no block: FSDP keeps these gathered from forward to backward."""


def place(
    train: TrainConfig, cluster: Cluster, whole: Whole, layout: Layout, way: Way
) -> Placement:
    """Memory and time of one way."""
    local = train.local_batch(cluster.devices)
    micro = train.micro_batch(local)
    states, once = (
        _held(whole.states, layout, cluster.devices, accumulates=which)
        for which in (micro < local, False)
    )
    images = _images(whole, layout, way)
    activation, passing = way.kept.per_image * micro, images.passing(micro)
    largest = images.largest(cluster.usable - sum(once))
    if largest < local:
        summed = _held(whole.states, layout, cluster.devices, accumulates=True)
        largest = images.largest(cluster.usable - sum(summed))
    hours = training_hours(train, cluster, way.flops, whole.states.optimizer_flops)
    return Placement(
        layout=layout,
        checkpointing=way.every,
        weights=states.weights,
        gradients=states.gradients,
        optimizer=states.optimizer,
        ema=states.ema,
        activations=activation,
        passing=passing,
        fits=sum(states) + activation + passing <= cluster.usable,
        largest_micro_batch=largest,
        flops_per_step=way.flops * local + whole.states.optimizer_flops,
        hours=hours,
        device_hours=hours * cluster.devices,
    )


def training_hours(
    train: TrainConfig, cluster: Cluster, image_flops: int, optimizer_flops: int
) -> float:
    """Of a whole recipe, on all devices together.

    Args:
        train: length, batch, precision.
        cluster: on what, and how well it is used.
        image_flops: of one image, forward and backward.
        optimizer_flops: of a step on each device: Muon's products, in bf16 on any card.
    """
    work = image_flops * train.local_batch(cluster.devices)
    seconds = work / cluster.speed(train.precision) + optimizer_flops / cluster.speed("bf16")
    return math.ceil(train.images / train.batch_size) * seconds / 3600


class _Held(NamedTuple):
    """Bytes that a device keeps from step to step."""

    weights: int
    gradients: int
    optimizer: int
    ema: int


def _held(states: States, layout: Layout, devices: int, *, accumulates: bool) -> _Held:
    """A device's part. Gradients that accumulate over micro-batches are whole on every device
    until the last one: DDP adds them up beside the buffers that it exchanges, and FSDP divides
    them only then."""
    share = devices if layout == "FSDP" else 1
    parameters, gradients, optimizer, ema = (
        math.ceil(x / share) for x in (states.gradients, *states[1:4])
    )
    if accumulates:
        gradients = (2 if layout == "DDP" else 1) * states.gradients
    buffers = states.weights - states.gradients  # which nothing divides
    return _Held(parameters + buffers, gradients, optimizer, ema)


class _Images(NamedTuple):
    """Bytes that images take which a device computes at once."""

    kept: int
    """Of one image, from forward to backward."""
    again: int
    """Of one image, in a block that is computed again."""
    always: int
    """Whatever their number: what FSDP gathers."""
    copies: int
    """Autocast's of the weights, to the end of the forward pass."""
    late: int
    """Those that stay to the end of the backward pass, when a block may be computed again."""

    def passing(self, count: int) -> int:
        """At the worst moment."""
        return self.always + max(self.copies, self.late + self.again * count)

    def largest(self, free: int) -> int:
        """How many images there is room for; 0 = not even one."""
        free -= self.always
        forward = (free - self.copies) // max(1, self.kept)
        return max(0, min(forward, (free - self.late) // max(1, self.kept + self.again)))


def _images(whole: Whole, layout: Layout, way: Way) -> _Images:
    # Gathered: the block at work, the next one, its gradients, and those on their way.
    gathered = FP32 * (4 * whole.largest_block + whole.outside)
    divided = layout == "FSDP"
    copies = whole.plain.fixed
    return _Images(
        kept=way.kept.per_image,
        again=whole.plain.largest_block if way.every else 0,
        always=gathered if divided else 0,
        copies=copies,
        # Of blocks that are computed again the copies go with the forward pass.
        late=copies if way.every != 1 else 0,
    )

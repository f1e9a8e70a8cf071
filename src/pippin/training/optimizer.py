# SPDX-License-Identifier: Apache-2.0
"""Optimizers of a run, their state, and the position of a step in the learning-rate schedule.
:mod:`pippin.training.muon` has Muon itself."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pippin.distributed.sharded_tensors import shard_like
from pippin.distributed.world import SINGLE_RANK, World
from pippin.model import LatentDenoiser
from pippin.training.config import TrainConfig
from pippin.training.muon import Muon, shared_precision
from pippin.training.schedules import learning_rate_factor


def build_optimizers(
    model: LatentDenoiser, config: TrainConfig, world: World = SINGLE_RANK
) -> list[Optimizer]:
    """Build Adam for all parameters; with ``muon_learning_rate``, Muon for the matrices of the
    denoiser's blocks and Adam for the rest. Adam's weight decay is decoupled. All ranks must call
    it."""
    if config.muon_learning_rate is None:
        return [_adam(list(model.parameters()), config)]
    named = model.denoiser.blocks.named_parameters()
    matrices = [p for name, p in named if name.endswith("weight") and p.ndim > 1]  # no tables
    matrix_ids = set(map(id, matrices))
    rest = [p for p in model.parameters() if id(p) not in matrix_ids]
    muon = Muon(
        matrices,
        lr=config.muon_learning_rate,
        gram=config.muon_gram,
        precision=shared_precision(matrices[0].device, config.muon_precision, world),
    )
    return [_adam(rest, config), muon]


def _adam(parameters: list[nn.Parameter], config: TrainConfig) -> Optimizer:
    optimizer_class = torch.optim.AdamW if config.weight_decay else torch.optim.Adam
    return optimizer_class(
        parameters,
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=parameters[0].device.type in ("cpu", "cuda"),  # one kernel pass over the weights
    )


def state_bytes(optimizer: Optimizer) -> int:
    """Bytes of an optimizer's full state after a step, also where it is sharded: Adam has two
    averages of each number and a step count of each tensor, Muon one average of each number."""
    owned = [p for group in optimizer.param_groups for p in group["params"]]
    average = sum(p.numel() * p.element_size() for p in owned)
    if isinstance(optimizer, Muon):
        return average
    return 2 * average + len(owned) * torch.float32.itemsize


def schedule_position(
    step: int, *, images: int, batch_size: int, lr_at: Literal["middle", "end"]
) -> tuple[float, int]:
    """Images at which a step reads its learning rates, and the length of the run in images. By
    ``train.lr_at`` that is the middle of the step in a run of full batches, or the end of the step
    in a run of exactly ``images``."""
    if lr_at == "end":
        return (step + 1) * batch_size, images
    return (step + 0.5) * batch_size, math.ceil(images / batch_size) * batch_size


def lr_multiplier(config: TrainConfig, step: int) -> float:
    """Multiplier of the learning rates in a step, see :mod:`pippin.training.schedules`.

    It is evaluated at the middle of the step's images, for a run of ``total_steps`` full batches:
    so no step has rate 0, not even the only one of a run. With ``lr_at`` end it is evaluated at
    their end, for a run of exactly ``images``.

    Args:
        config: length and schedule.
        step: index, from 0.
    """
    seen, length = schedule_position(
        step, images=config.images, batch_size=config.batch_size, lr_at=config.lr_at
    )
    return learning_rate_factor(config, seen, length)


def set_learning_rates(optimizers: Sequence[Optimizer], multiplier: float) -> None:
    """Set every group's learning rate to a multiple of its peak rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = multiplier * group.setdefault("peak_lr", group["lr"])


def optimizer_tensors(model: nn.Module, optimizers: Sequence[Optimizer]) -> dict[str, Tensor]:
    """Optimizer state as ``SLOT/PARAMETER`` tensors."""
    return {
        f"{slot}/{name}": value
        for name, parameter, optimizer in _named_parameters(model, optimizers)
        for slot, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizers(
    model: nn.Module, optimizers: Sequence[Optimizer], tensors: dict[str, Tensor]
) -> None:
    """Load state from :func:`optimizer_tensors`, to the device of each parameter."""
    slots = sorted({key.split("/", 1)[0] for key in tensors})
    for name, parameter, optimizer in _named_parameters(model, optimizers):
        state = {slot: tensors[f"{slot}/{name}"] for slot in slots if f"{slot}/{name}" in tensors}
        fused = optimizer.defaults.get("fused")
        optimizer.state[parameter] = {
            slot: shard_like(value.to(parameter.device), parameter)
            if value.ndim or fused
            else value  # a step count, which only fused Adam keeps beside the parameter
            for slot, value in state.items()
        }


def _named_parameters(
    model: nn.Module, optimizers: Sequence[Optimizer]
) -> Iterator[tuple[str, nn.Parameter, Optimizer]]:
    """(name, parameter, its optimizer) of each parameter."""
    owner = {
        id(parameter): optimizer
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in model.named_parameters():
        yield name, parameter, owner[id(parameter)]

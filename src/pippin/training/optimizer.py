# SPDX-License-Identifier: Apache-2.0
"""Optimizers, their rates as a function of images seen, and their state as named tensors."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pippin.model import LatentDenoiser
from pippin.muon import Muon
from pippin.system.sharded import laid_out_as
from pippin.training.config import TrainConfig


def build_optimizers(model: LatentDenoiser, config: TrainConfig) -> list[Optimizer]:
    """Adam over all parameters; with ``muon_learning_rate``, Muon over the matrices of the
    denoiser's blocks and Adam over the rest. Adam's weight decay is decoupled."""
    if config.muon_learning_rate is None:
        return [_adam(list(model.parameters()), config)]
    named = model.denoiser.blocks.named_parameters()
    matrices = [p for name, p in named if name.endswith("weight") and p.ndim > 1]  # no tables
    known = set(map(id, matrices))
    rest = [p for p in model.parameters() if id(p) not in known]
    return [_adam(rest, config), Muon(matrices, lr=config.muon_learning_rate)]


def _adam(parameters: list[nn.Parameter], config: TrainConfig) -> Optimizer:
    kind = torch.optim.AdamW if config.weight_decay else torch.optim.Adam
    return kind(
        parameters,
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=parameters[0].device.type in ("cpu", "cuda"),  # one pass over the weights
    )


def rate_share(config: TrainConfig, step: int) -> float:
    """Share of the learning rates in a step: linear warm-up, constant, and over the last
    ``decay_share`` of the run linearly to 0.

    It is read at the middle of the step's images, of a run that is as long as its whole batches:
    so no step has rate 0, not even the only one of a run. With ``lr_at`` end it is read at their
    end, of a run of exactly ``images``.

    Args:
        config: the schedule.
        step: from 0 on.
    """
    seen: float = (step + 1) * config.batch_size
    length = config.images
    if config.lr_at == "middle":
        seen = (step + 0.5) * config.batch_size
        length = config.total_steps * config.batch_size
    warm = seen / config.warmup_images if config.warmup_images else 1.0
    left = 1 - seen / length
    decay = left / config.decay_share if config.decay_share else 1.0
    return max(0.0, min(1.0, warm, decay))


def set_rates(optimizers: Sequence[Optimizer], share: float) -> None:
    """Every group's learning rate becomes a share of the one it was built with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = share * group.setdefault("peak_lr", group["lr"])


def optimizer_tensors(model: nn.Module, optimizers: Sequence[Optimizer]) -> dict[str, Tensor]:
    """The optimizers' state as ``SLOT/PARAMETER`` tensors."""
    return {
        f"{slot}/{name}": value
        for name, parameter, optimizer in _owned(model, optimizers)
        for slot, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizers(
    model: nn.Module, optimizers: Sequence[Optimizer], tensors: dict[str, Tensor]
) -> None:
    """The inverse of :func:`optimizer_tensors`, on the device of each parameter."""
    slots = sorted({key.split("/", 1)[0] for key in tensors})
    for name, parameter, optimizer in _owned(model, optimizers):
        found = {slot: tensors[f"{slot}/{name}"] for slot in slots if f"{slot}/{name}" in tensors}
        optimizer.state[parameter] = {  # the fused Adam wants its step count there too
            slot: laid_out_as(value.to(parameter.device), parameter)
            for slot, value in found.items()
        }


def _owned(
    model: nn.Module, optimizers: Sequence[Optimizer]
) -> Iterator[tuple[str, nn.Parameter, Optimizer]]:
    """Each parameter by name, with the optimizer that moves it."""
    owner = {
        id(parameter): optimizer
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in model.named_parameters():
        yield name, parameter, owner[id(parameter)]

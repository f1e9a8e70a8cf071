# SPDX-License-Identifier: Apache-2.0
"""What a trainer is made of, as the tensors of a checkpoint, and back."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from pippin.system.sharded import gathered, laid_out_as
from pippin.training.checkpoint import Checkpoint
from pippin.training.ema import EMA
from pippin.training.optimizer import optimizer_tensors, restore_optimizers

NAMED = 5
"""Tensors that an error names."""


def capture(
    model: nn.Module,
    averages: Mapping[str, EMA],
    optimizers: Sequence[Optimizer],
    state: dict[str, Any],
    *,
    keep: bool,
    apart: bool,
) -> Checkpoint:
    """A checkpoint of this moment; all processes that share tensors must ask for it.

    Args:
        model: the raw weights.
        averages: by the name of their file, ``ema`` among them.
        optimizers: of the model.
        state: position and counters.
        keep: False in processes that only give their part: they get no tensors.
        apart: whether the tensors are copies in the CPU's memory, which no later step changes.
    """
    found = {name: gathered(ema.weights, keep=keep, apart=apart) for name, ema in averages.items()}
    slots = optimizer_tensors(model, optimizers)
    half_lives = {name: ema.half_life for name, ema in averages.items() if name != "ema"}
    return Checkpoint(
        model=gathered(model.state_dict(), keep=keep, apart=apart),
        ema=found.pop("ema"),
        optimizer=gathered(slots, keep=keep, apart=apart),
        extra=found,
        state=state | ({"half_lives": half_lives} if half_lives else {}),
    )


def put_back(
    checkpoint: Checkpoint,
    path: Path,
    model: nn.Module,
    averages: Mapping[str, EMA],
    optimizers: Sequence[Optimizer],
) -> None:
    """Give a model, its averages and its optimizers what a checkpoint, of this path, holds.

    Raises:
        ValueError: it holds other averages, or tensors of another model; nothing is changed.
    """
    if set(checkpoint.extra) | {"ema"} != set(averages):
        there, here = (
            ", ".join(sorted(set(names) - {"ema"})) or "none"
            for names in (checkpoint.extra, averages)
        )
        raise ValueError(
            f"{path} has the further averages: {there}; train.ema_extra asks for: {here}. "
            "Averages are kept from the first step on: resume with those that are there"
        )
    own = model.state_dict()
    _refuse_other_shapes(checkpoint, path, own)
    model.load_state_dict(
        {name: laid_out_as(x, own[name]) for name, x in checkpoint.model.items()}
    )
    for name, ema in averages.items():
        ema.restore(checkpoint.ema if name == "ema" else checkpoint.extra[name])
    restore_optimizers(model, optimizers, checkpoint.optimizer)


def _refuse_other_shapes(checkpoint: Checkpoint, path: Path, own: Mapping[str, Tensor]) -> None:
    there = {name: tuple(tensor.shape) for name, tensor in checkpoint.model.items()}
    here = {name: tuple(tensor.shape) for name, tensor in own.items()}
    odd = sorted(name for name in {**there, **here} if there.get(name) != here.get(name))
    if odd:
        lines = "".join(
            f"\n  {name}: {there.get(name, 'absent')} there, {here.get(name, 'absent')} here"
            for name in odd[:NAMED]
        )
        raise ValueError(
            f"{path} is of another model; tensors that differ: {len(odd)}{lines}\n"
            "resume with the settings and the classes that it was trained with"
        )

# SPDX-License-Identifier: Apache-2.0
"""Saving and loading of a trainer's state as a checkpoint."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from pippin.system.sharded_tensors import gather_full_tensors, shard_like
from pippin.training.checkpoint import Checkpoint
from pippin.training.ema import EMA
from pippin.training.optimizer import optimizer_tensors, restore_optimizers

MAX_NAMES = 5
"""Number of tensors that an error lists."""


def save_state(
    model: nn.Module,
    averages: Mapping[str, EMA],
    optimizers: Sequence[Optimizer],
    state: dict[str, Any],
    *,
    keep: bool,
    apart: bool,
) -> Checkpoint:
    """Checkpoint of the current state; all ranks that share tensors must call it.

    Args:
        model: the raw weights.
        averages: by file name, ``ema`` among them.
        optimizers: the model's optimizers.
        state: position and counters.
        keep: False on ranks that only contribute their shard: they get no tensors.
        apart: copy the tensors to CPU memory, so that no later step changes them.
    """
    averaged = {
        name: gather_full_tensors(ema.weights, keep=keep, apart=apart)
        for name, ema in averages.items()
    }
    slots = optimizer_tensors(model, optimizers)
    half_lives = {name: ema.half_life for name, ema in averages.items() if name != "ema"}
    return Checkpoint(
        model=gather_full_tensors(model.state_dict(), keep=keep, apart=apart),
        ema=averaged.pop("ema"),
        optimizer=gather_full_tensors(slots, keep=keep, apart=apart),
        extra=averaged,
        state=state | ({"half_lives": half_lives} if half_lives else {}),
    )


def restore_state(
    checkpoint: Checkpoint,
    path: Path,
    model: nn.Module,
    averages: Mapping[str, EMA],
    optimizers: Sequence[Optimizer],
) -> None:
    """Load a checkpoint, read from ``path``, into a model, its averages and its optimizers.

    Raises:
        ValueError: other averages, or tensors of another model; nothing is changed.
    """
    if set(checkpoint.extra) | {"ema"} != set(averages):
        saved, expected = (
            ", ".join(sorted(set(names) - {"ema"})) or "none"
            for names in (checkpoint.extra, averages)
        )
        raise ValueError(
            f"{path} has the further averages: {saved}; train.ema_extra names: {expected}. "
            "Averages start with the first step: resume with the saved ones in --train.ema-extra"
        )
    current = model.state_dict()
    _refuse_other_shapes(checkpoint, path, current)
    model.load_state_dict(
        {name: shard_like(x, current[name]) for name, x in checkpoint.model.items()}
    )
    for name, ema in averages.items():
        ema.restore(checkpoint.ema if name == "ema" else checkpoint.extra[name])
    restore_optimizers(model, optimizers, checkpoint.optimizer)


def _refuse_other_shapes(
    checkpoint: Checkpoint, path: Path, current: Mapping[str, Tensor]
) -> None:
    saved = {name: tuple(tensor.shape) for name, tensor in checkpoint.model.items()}
    expected = {name: tuple(tensor.shape) for name, tensor in current.items()}
    differing = sorted(
        name for name in {**saved, **expected} if saved.get(name) != expected.get(name)
    )
    if differing:
        lines = "".join(
            f"\n  {name}: {saved.get(name, 'absent')} saved, {expected.get(name, 'absent')} here"
            for name in differing[:MAX_NAMES]
        )
        raise ValueError(
            f"{path} is of another model; tensors that differ: {len(differing)}{lines}\n"
            "resume with the settings and classes of its training: pippin train --config "
            "RUN/config.json --resume True --folder RUN"
        )

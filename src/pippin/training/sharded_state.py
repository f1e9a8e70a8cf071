# SPDX-License-Identifier: Apache-2.0
"""Sharded checkpoints of a trainer: whether it writes them, and how it resumes from one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pippin.config import ConfigError
from pippin.distributed.shard_files import ShardedTensor, read_index
from pippin.distributed.shard_storage import read_shards
from pippin.distributed.world import World
from pippin.runs.checkpoint import Checkpoint, check_intact, load_checkpoint
from pippin.runs.checkpoint_state import PARTS, is_sharded, load_state, part_files
from pippin.system.main_memory import main_memory
from pippin.training.config import TrainConfig
from pippin.training.ema import EMA
from pippin.training.optimizer import restore_optimizers, state_bytes
from pippin.training.state import refuse_other_tensors, restore_state

MEMORY_SHARE = 0.5
"""Share of rank 0's CPU memory that a gathered state may take; loaders, caches and the machine's
other ranks need the rest."""


def writes_shards(
    config: TrainConfig,
    world: World,
    model: nn.Module,
    averages: Mapping[str, EMA],
    optimizers: Sequence[Optimizer],
) -> bool:
    """Whether a trainer writes sharded checkpoints, see ``train.checkpoint_format``; the same on
    all ranks, which must call it.

    Raises:
        ConfigError: auto chooses them, and ``checkpoint_overlap`` excludes them.
    """
    if config.checkpoint_format != "auto" or config.parallel != "fsdp" or world.size == 1:
        return config.checkpoint_format == "sharded"
    needed, memory = gathered_bytes(model, averages, optimizers), main_memory()
    too_large = memory is not None and needed > MEMORY_SHARE * memory
    chosen = world.any_rank(world.is_rank0 and too_large)
    if chosen and config.checkpoint_overlap:
        raise ConfigError(
            f"train.checkpoint_format auto chooses sharded, because the state takes "
            f"{needed / 1e9:.3g} GB, more than half of rank 0's CPU memory, and "
            "train.checkpoint_overlap True excludes it: give --train.checkpoint-overlap False, or "
            "--train.checkpoint-format safetensors to gather it in any case"
        )
    return chosen


def gathered_bytes(
    model: nn.Module, averages: Mapping[str, EMA], optimizers: Sequence[Optimizer]
) -> int:
    """Bytes of the full state: weights, averages, and the optimizers' state after a step."""
    tensors = [*model.state_dict().values()]
    tensors += [weight for ema in averages.values() for weight in ema.weights.values()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return weights + sum(map(state_bytes, optimizers))


def resume_state(
    path: Path,
    model: nn.Module,
    averages: Mapping[str, EMA],
    optimizers: Sequence[Optimizer],
    *,
    world: World,
    verified: bool,
) -> dict[str, Any]:
    """Load a checkpoint of either layout into a model, its averages and its optimizers. Of a
    sharded one each rank reads its own shards; all ranks must call it.

    Args:
        path: the checkpoint.
        model, averages, optimizers: as of :func:`pippin.training.state.save_state`.
        world: the ranks, any number of them.
        verified: see :func:`pippin.runs.checkpoint.load_checkpoint`.

    Returns:
        Position and counters.

    Raises:
        CheckpointError: it is damaged.
        ValueError: other averages, or tensors of another model; nothing is changed.
    """
    state = load_state(path)
    if not is_sharded(state):
        checkpoint = load_checkpoint(path, verified=verified)
        restore_state(checkpoint, path, model, averages, optimizers)
        return state
    if not verified:
        check_intact(path, state)
    files = part_files(state)
    index = read_index(path, [file for names in files.values() for file in names])
    refuse_other_tensors(_outline(index, files, state), path, model, averages)
    slots = _empty_slots(model, index)
    targets = {
        **{f"model/{name}": tensor for name, tensor in model.state_dict().items()},
        **{f"{part}/{n}": x for part, ema in averages.items() for n, x in ema.weights.items()},
        **{f"optimizer/{name}": tensor for name, tensor in slots.items()},
    }
    read_shards(targets, path, index, world)
    restore_optimizers(model, optimizers, slots)
    return state


def _outline(
    index: Mapping[str, ShardedTensor], parts: Mapping[str, Any], state: dict[str, Any]
) -> Checkpoint:
    """The checkpoint with names and sizes, and no values."""
    tensors: dict[str, dict[str, Tensor]] = {part: {} for part in parts}
    for key, tensor in index.items():
        part, _, name = key.partition("/")
        tensors.setdefault(part, {})[name] = torch.empty(
            tensor.size, dtype=tensor.dtype, device="meta"
        )
    extra = {part: tensors.pop(part) for part in set(tensors) - set(PARTS)}
    return Checkpoint(state=state, extra=extra, **tensors)


def _empty_slots(model: nn.Module, index: Mapping[str, ShardedTensor]) -> dict[str, Tensor]:
    """Tensors for the saved optimizer state by ``SLOT/PARAMETER``, sharded as the parameters."""
    parameters = dict(model.named_parameters())
    slots = {}
    for key, saved in index.items():
        part, _, name = key.partition("/")
        parameter = parameters.get(name.partition("/")[2]) if part == "optimizer" else None
        if parameter is None:
            continue
        if saved.size == tuple(parameter.shape):
            slots[name] = torch.empty_like(parameter.detach(), dtype=saved.dtype)
        else:  # a step count
            slots[name] = torch.empty(saved.size, dtype=saved.dtype)
    return slots

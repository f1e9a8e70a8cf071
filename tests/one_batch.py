# SPDX-License-Identifier: Apache-2.0
"""Results compared between world sizes: gradients, losses, final weights.

For tests and for ``scripts/world_size_equivalence.py``.
"""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from small_trainer import CONFIG, batches, make_trainer, rank_batches
from torch import Tensor

from pippin.denoisers.config import DenoiserConfig
from pippin.denoisers.dit.config import dit
from pippin.denoisers.mdtv2.config import mdtv2
from pippin.denoisers.mmdit.config import mmdit
from pippin.denoisers.pixart.config import pixart
from pippin.denoisers.unet.config import unet
from pippin.distributed.sharded_tensors import full_tensor
from pippin.distributed.world import World
from pippin.training.loop import Trainer

SIZED = {"depth": 2, "width": 16, "num_heads": 2}
SMALL = {
    "mmdit": replace(mmdit("tiny"), **SIZED),
    "dit": replace(dit("tiny", cross_attention=True), **SIZED),
    "mdtv2": replace(
        mdtv2("tiny", (4, 4), cross_attention=True), **SIZED | {"depth": 4}, decoder_depth=2
    ),
    "pixart": replace(pixart("tiny"), **SIZED),
    "unet": replace(unet("tiny"), channels=16, token_width=16, num_heads=2, norm_groups=4),
}


def first_gradients(
    world: World, folder: Path, denoiser: DenoiserConfig, **settings
) -> dict[str, Tensor]:
    """Full gradients of every parameter, before the first optimizer step."""
    trainer = make_trainer(folder, world, denoiser, awake=True, **settings)
    draws = trainer.draw(0, (CONFIG.batch_size, 4, 8, 8))
    batch = next(rank_batches(batches(), world))
    trainer.backward(batch, draws.rows(world.local_rows(CONFIG.batch_size)))
    return {name: full_tensor(p.grad).clone() for name, p in trainer.model.named_parameters()}


def trace(
    world: World,
    folder: Path,
    steps: int = 12,
    start: Path | None = None,
    dtype: torch.dtype = torch.float64,
    **settings,
) -> dict[str, Tensor]:
    """Losses of a run and its last weights; in float64, rounding does not matter.

    Args:
        world: process group of this rank.
        folder: folder whose ``run`` gets the checkpoints.
        steps: total number of steps.
        start: checkpoint to resume from.
        dtype: data type of weights, optimizer, averages and all computation.
        settings: settings of the trainer.
    """
    settings["images"] = steps * CONFIG.batch_size
    trainer = make_trainer(folder / "run", world, dtype=dtype, **settings)
    if start is not None:
        trainer.restore(start)
    losses: list[float] = []
    with ExitStack() as held:
        if dtype == torch.float64:
            _in_double(trainer)
            held.enter_context(patch.object(torch.Tensor, "float", torch.Tensor.double))
        source = rank_batches(batches(trainer.step_count), world)
        trainer.train(source, [lambda record: losses.append(record.loss)])
    weight = full_tensor(next(trainer.model.parameters()).detach())
    assert weight.dtype == dtype
    return {"losses": torch.tensor(losses, dtype=torch.float64), "weight": weight}


def _in_double(trainer: Trainer) -> None:
    for module in trainer.model.modules():
        module.register_forward_pre_hook(_doubled)
    trainer.ema.weights = {name: x.double() for name, x in trainer.ema.weights.items()}


def _doubled(_, inputs):
    return tuple(
        x.double() if isinstance(x, Tensor) and x.dtype == torch.float32 else x for x in inputs
    )

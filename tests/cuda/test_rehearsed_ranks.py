# SPDX-License-Identifier: Apache-2.0
"""Steps and a checkpoint of rank 0 of two GPUs, under DDP and FSDP2."""

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from cuda_rehearsal import WAITS
from rehearsed_ranks import two_ranks
from small_trainer import CONFIG, SMALL, batches, rank_batches
from torch.distributed.tensor import DTensor

from pippin.conditioning.config import ConditioningConfig
from pippin.diffusion.config import DiffusionConfig
from pippin.model import build_model
from pippin.objective.losses import Objective
from pippin.training.loop import Trainer

STEP = "distributed.world:sync_step_status"
BEFORE = torch.cuda.Stream, torch.cuda.current_device, torch.Tensor.backward


@pytest.mark.parametrize(
    ("parallel", "settings"),
    [("ddp", {"micro_batch_size": 2}), ("fsdp", {"muon_learning_rate": 1e-2})],
)
def test_a_step_of_two_ranks_waits_once(parallel, settings, tmp_path):
    """And copies nothing but pinned memory. Under FSDP2 weights, gradients and averages are
    shards; a checkpoint gathers them."""
    conditioning = ConditioningConfig()
    config = replace(CONFIG, images=24, parallel=parallel, precision="bf16", **settings)
    with two_ranks() as (mode, world):
        model = build_model(conditioning, SMALL, num_classes=3, latent_channels=4, seed=0)
        trainer = Trainer(
            model.to("cuda"),
            Objective(DiffusionConfig()),
            conditioning,
            config,
            seed=0,
            folder=tmp_path,
            world=world,
        )
        stream = rank_batches(batches(), world)
        trainer.step(next(stream))
        mode.pageable.clear()
        mode.waits.clear()
        trainer.step(next(stream))
        assert dict(mode.waits) == {STEP: 1}
        assert not mode.pageable
        kept = [*model.parameters(), *trainer.ema.weights.values()]
        assert {isinstance(weight, DTensor) for weight in kept} == {parallel == "fsdp"}
        trainer.save()
    assert set(mode.waits) <= set(WAITS)


def test_nothing_of_the_ranks_stays():
    with two_ranks():
        assert dist.get_world_size() == 2
    assert not dist.is_initialized()
    assert (torch.cuda.Stream, torch.cuda.current_device, torch.Tensor.backward) == BEFORE

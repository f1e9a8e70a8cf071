# SPDX-License-Identifier: Apache-2.0
"""Plans for two devices against two processes: what each keeps, and how much it holds at most."""

import gc
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain

import pytest
from live_bytes import LiveBytes
from processes import run_ranks
from small_trainer import CONFIG, batches, make_trainer, rank_batches
from torch.distributed.tensor import DTensor

from pippin.conditioning.config import ConditioningConfig, ControlConfig
from pippin.denoisers.dit.config import DiTConfig
from pippin.planning.devices import Cluster
from pippin.planning.plan import plan
from pippin.recipes.table import get_recipe

BATCH = 16
DENOISER = DiTConfig(depth=6, width=96, num_heads=2, patch_size=2)
CONDITIONING = ConditioningConfig(
    rules={"label": "modulation"}, control=ControlConfig(high=(), low=())
)


def held(tensors):
    """Bytes of the memory behind tensors, of parts where they are shared; each piece once."""
    local = (x.to_local() if isinstance(x, DTensor) else x for x in tensors)
    pieces = {x.untyped_storage()._cdata: x.untyped_storage().nbytes() for x in local}
    return sum(pieces.values())


def weighed(world, folder, settings):
    """Memory of one process in its second step: bytes of each part, and the most at any moment.

    The first backward pass of DDP lays out its buffers anew.
    """
    with LiveBytes() as live:
        trainer = make_trainer(folder, world, DENOISER, conditioning=CONDITIONING, **settings)
        source = rank_batches(batches(batch_size=BATCH), world)
        trainer.step(next(source))
        after = []

        @contextmanager
        def weigh(part):
            yield
            if part == "backward":
                gc.collect()  # unsharded weights may hang in cycles of FSDP's hooks
                after.append(live.now())

        trainer.timed = weigh
        live.most = 0
        trainer.step(next(source))
    slots = [slot.values() for one in trainer.optimizers for slot in one.state.values()]
    parts = {
        "weights": held(chain(trainer.model.parameters(), trainer.model.buffers())),
        "optimizer": held(chain(*slots)),
        "ema": held(trainer.ema.weights.values()),
    }
    # DDP's buffers, and what FSDP sums up before it divides, are seen in the whole alone.
    gradients = max(after) - sum(parts.values())
    return parts | {"gradients": gradients, "memory": live.most}


@pytest.mark.parametrize("micro", [None, 2], ids=["at once", "in micro-batches"])
@pytest.mark.parametrize(
    ("parallel", "layout", "above"),
    [("ddp", "DDP", 0.0), ("fsdp", "FSDP", 0.25)],
)
def test_two_processes_hold_what_is_planned_for_two_devices(
    parallel, layout, above, micro, tmp_path
):
    """States to 0.1 %, gradients to 3 % (a batch is among them); all together is at most 3 % more
    than planned, and under FSDP up to a quarter less."""
    settings = {"batch_size": BATCH, "parallel": parallel, "micro_batch_size": micro}
    recipe = replace(
        get_recipe("published/dit-xl-256"),
        denoiser=DENOISER,
        conditioning=CONDITIONING,
        train=replace(CONFIG, **settings),
    )
    planned = plan(recipe, Cluster(devices=2), latent_shape=(4, 8, 8), num_classes=3)
    plain = next(one for one in planned.placements if one.layout == layout)

    def work(world, at):
        return weighed(world, at / str(world.rank), settings)

    for rank in run_ranks(2, work, tmp_path):
        for part in ("weights", "optimizer", "ema"):
            assert getattr(plain, part) == pytest.approx(rank[part], rel=1e-3), part
        assert plain.gradients == pytest.approx(rank["gradients"], rel=0.03)
        assert 0.97 * rank["memory"] < plain.memory < (1 + above) * rank["memory"]

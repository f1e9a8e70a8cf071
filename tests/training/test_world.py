# SPDX-License-Identifier: Apache-2.0
"""One global batch, however many processes and micro-batches share it."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from processes import in_processes
from small_trainer import CONFIG, batches, make_trainer, parts_of

from pippin.denoisers.config import dit, mdtv2, mmdit, pixart, unet
from pippin.system.stop import TrainingStoppedError
from pippin.training.world import World

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


def first_gradients(world, folder, denoiser, micro):
    """Of every parameter, before the optimizer moves it."""
    trainer = make_trainer(folder, world, denoiser, micro_batch_size=micro, grad_clip=None)
    found = {}

    def look(_):
        found.update({n: p.grad.clone() for n, p in trainer.model.named_parameters()})

    trainer._draw(0, (CONFIG.batch_size, 4, 8, 8))
    batch = next(parts_of(batches(), world))
    trainer._backward(batch, trainer._drawn[2].rows(world.part(CONFIG.batch_size)))
    look(None)
    return found


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize(("size", "micro"), [(1, 3), (2, None), (2, 1)])
def test_first_gradients_are_those_of_one_process(kind, size, micro, tmp_path):
    """1e-6 of the largest gradient, in fp32."""
    whole = first_gradients(World(), tmp_path, SMALL[kind], None)
    shared = in_processes(
        size, lambda world, at: first_gradients(world, at, SMALL[kind], micro), tmp_path / "many"
    )
    largest = max(grad.abs().max() for grad in whole.values())
    for rank in shared:
        assert set(rank) == set(whole)
        for name, grad in whole.items():
            torch.testing.assert_close(rank[name], grad, rtol=0, atol=1e-6 * largest.item())


def trace(world, folder, micro=None, steps=12):
    """Losses of a run in float64, where rounding has no say, and the last weights."""
    settings = {"micro_batch_size": micro, "images": steps * CONFIG.batch_size}
    trainer = make_trainer(folder / "run", world, dtype=torch.float64, **settings)
    for module in trainer.model.modules():
        module.register_forward_pre_hook(in_double)
    trainer.ema.weights = {name: x.double() for name, x in trainer.ema.weights.items()}
    losses = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        trainer.train(parts_of(batches(), world), [lambda _, report: losses.append(report.loss)])
    weight = next(trainer.model.parameters()).detach()
    assert weight.dtype == torch.float64
    return {"losses": torch.tensor(losses, dtype=torch.float64), "weight": weight}


def in_double(_, inputs):
    return tuple(
        x.double() if isinstance(x, torch.Tensor) and x.dtype == torch.float32 else x
        for x in inputs
    )


@pytest.mark.parametrize(("size", "micro"), [(1, 3), (2, None), (4, 1)])
def test_in_float64_the_loss_trace_is_that_of_one_process(size, micro, tmp_path):
    whole = trace(World(), tmp_path / "one")
    for rank in in_processes(size, lambda w, at: trace(w, at, micro), tmp_path / "many"):
        torch.testing.assert_close(rank["losses"], whole["losses"], rtol=1e-10, atol=0)
        torch.testing.assert_close(rank["weight"], whole["weight"], rtol=1e-8, atol=1e-10)


def test_one_process_writes_and_another_number_goes_on(tmp_path):
    """Saved by two, resumed by one and by four: the same run within rounding."""
    whole = run_to_the_end(World(), tmp_path / "whole")
    first = tmp_path / "first"

    def halfway(world, at):
        trainer = make_trainer(first, world, images=80)
        trainer.train(parts_of(batches(), world), ())
        return {"images": trainer.images_seen}

    assert in_processes(2, halfway, tmp_path / "two") == [{"images": 80}] * 2
    assert sorted(path.name for path in (first / "checkpoints").iterdir()) == ["40", "80"]
    for size in (1, 4):

        def resumed(world, at, size=size):
            folder = at / "run"
            return run_to_the_end(world, folder, first / "checkpoints/80")

        for rank in in_processes(size, resumed, tmp_path / f"go-on-{size}"):
            torch.testing.assert_close(rank["weight"], whole["weight"], rtol=1e-3, atol=1e-4)
            assert rank["images"] == whole["images"]


def run_to_the_end(world, folder, start=None):
    trainer = make_trainer(folder, world)
    if start is not None:
        trainer.restore(start)
    trainer.train(parts_of(batches(trainer.step_count), world), ())
    return {"weight": next(trainer.model.parameters()).detach(), "images": trainer.images_seen}


def test_all_stop_after_the_same_step_when_one_is_asked_to(tmp_path):
    def stopped(world, at):
        trainer = make_trainer(at / "run", world)

        def ask(_, report):
            if world.rank == 1 and report.images_seen == 24:
                os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(TrainingStoppedError) as error:
            trainer.train(parts_of(batches(), world), [ask])
        return {"images": trainer.images_seen, "signal": error.value.signal}

    found = in_processes(2, stopped, tmp_path)
    assert found == [{"images": 32, "signal": signal.SIGTERM}] * 2
    assert (tmp_path / "run/checkpoints/32").is_dir()


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"train\.batch_size must be a multiple of the 3 proc.*8"):
        make_trainer(tmp_path, World(rank=0, size=3))

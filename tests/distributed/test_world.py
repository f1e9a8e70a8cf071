# SPDX-License-Identifier: Apache-2.0
"""Numerical equivalence across world sizes and micro-batches."""

import os
import signal
import socket
import time
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
import torch.multiprocessing as mp
from one_batch import SMALL, first_gradients, trace
from processes import run_ranks
from small_trainer import CONFIG, batches, make_trainer, rank_batches
from torch.distributed.tensor import DTensor
from torch.multiprocessing.spawn import ProcessExitedException

from pippin import rng
from pippin.conditioning.config import ConditioningConfig, TextSemantic
from pippin.distributed import world as world_module
from pippin.distributed.sharded_tensors import full_tensor
from pippin.distributed.world import World, distributed_world
from pippin.runs.checkpoint import load_weights, newest_intact_checkpoint
from pippin.system.signals import TrainingStoppedError
from pippin.training.averaging.config import ShareHalfLife
from pippin.types import TextFeatures


@cache
def gradients_alone(kind, **settings):
    """First gradients in one process, for all tests."""
    with TemporaryDirectory() as folder:
        return first_gradients(World(), Path(folder), SMALL[kind], **settings)


@cache
def trace_alone(muon_learning_rate):
    """Six steps in one process, in float64."""
    with TemporaryDirectory() as folder:
        return trace(World(), Path(folder), 6, muon_learning_rate=muon_learning_rate)


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize(
    ("size", "micro", "parallel"),
    [(1, 3, "ddp"), (2, None, "ddp"), (2, 1, "ddp"), (2, None, "fsdp"), (2, 2, "fsdp")],
)
def test_first_gradients_are_those_of_one_process(kind, size, micro, parallel, tmp_path):
    """1e-6 of the largest gradient, in fp32."""
    alone = gradients_alone(kind)
    settings = {"micro_batch_size": micro, "parallel": parallel}
    found = run_ranks(
        size, lambda world, at: first_gradients(world, at, SMALL[kind], **settings), tmp_path / "n"
    )
    largest = max(grad.abs().max() for grad in alone.values())
    for rank in found:
        assert set(rank) == set(alone)
        for name, grad in alone.items():
            torch.testing.assert_close(rank[name], grad, rtol=0, atol=1e-6 * largest.item())


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("kind", SMALL)
def test_under_bf16_the_gradients_are_those_of_one_process(kind, parallel, tmp_path):
    """In two micro-batches, to 1e-6 of each tensor's norm or of the average norm: FSDP2 gathers in
    fp32, for gains of norms and MDTv2's tables must not be rounded. A UNet's stream is in bf16,
    and FSDP2's hooks add its gradients up in another order: 1 %."""
    alone = gradients_alone(kind, precision="bf16", micro_batch_size=4)
    settings = {"precision": "bf16", "parallel": parallel}
    shared = run_ranks(
        2, lambda world, at: first_gradients(world, at, SMALL[kind], **settings), tmp_path / "n"
    )[0]
    typical = sum(grad.norm() for grad in alone.values()) / len(alone)
    worst = max(
        float((shared[name] - grad).norm() / max(grad.norm(), typical))
        for name, grad in alone.items()
    )
    assert all(grad.dtype == torch.float32 for grad in shared.values())
    assert worst < (0.01 if (kind, parallel) == ("unet", "fsdp") else 1e-6)


def test_a_null_caption_that_only_one_process_needs_is_trained_by_all(tmp_path):
    """The second of two ranks keeps all its captions; neither waits for the other."""
    rule = TextSemantic(token_features=6, num_tokens=3)
    conditioning = ConditioningConfig(semantic=rule, rules={"text": "attention"})

    def gradient(world, folder):
        trainer = make_trainer(folder, world, conditioning=conditioning, awake=True)
        draws = trainer.draw(0, (CONFIG.batch_size, 4, 8, 8))
        keep = draws.keep
        keep.semantic[:] = True
        keep.semantic[0] = False
        batch = next(batches())
        text = TextFeatures(tokens=rng.normal((CONFIG.batch_size, 3, 6), "posterior", 1))
        batch = replace(batch, conditions=replace(batch.conditions, label=None, text=text))
        part = world.local_rows(CONFIG.batch_size)
        trainer.backward(batch.rows(part), draws.rows(part))
        return {"null": full_tensor(trainer.model.conditioner.text_tokens.null.grad).clone()}

    alone = gradient(World(), tmp_path / "one")
    assert alone["null"].abs().max() > 0
    for rank in run_ranks(2, gradient, tmp_path / "two"):
        torch.testing.assert_close(rank["null"], alone["null"], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
@pytest.mark.parametrize(
    ("size", "micro", "parallel"), [(1, 3, "ddp"), (2, None, "ddp"), (4, 1, "ddp"), (2, 2, "fsdp")]
)
def test_in_float64_the_loss_trace_is_that_of_one_process(
    size, micro, parallel, optimizer, tmp_path
):
    rate = 1e-2 if optimizer == "muon" else None
    settings = {"micro_batch_size": micro, "parallel": parallel, "muon_learning_rate": rate}
    alone = trace_alone(rate)
    for rank in run_ranks(size, lambda w, at: trace(w, at, 6, **settings), tmp_path):
        torch.testing.assert_close(rank["losses"], alone["losses"], rtol=1e-10, atol=0)
        torch.testing.assert_close(rank["weight"], alone["weight"], rtol=1e-8, atol=1e-10)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """End of the run of one process."""
    return run_to_the_end(World(), tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(("saved", "resumed"), [("ddp", "ddp"), ("fsdp", "ddp"), ("ddp", "fsdp")])
def test_one_process_writes_and_another_number_goes_on(saved, resumed, undisturbed, tmp_path):
    """Saved by two ranks, resumed by one and by four: the same run within rounding."""
    first = tmp_path / "first"

    def halfway(world, at):
        trainer = make_trainer(first, world, images=48, checkpoint_every=24, parallel=saved)
        trainer.train(rank_batches(batches(), world), ())
        return {"images": trainer.images_seen}

    assert run_ranks(2, halfway, tmp_path / "two") == [{"images": 48}] * 2
    assert sorted(path.name for path in (first / "checkpoints").iterdir()) == ["24", "48"]
    for size in (1, 4):

        def go_on(world, at):
            return run_to_the_end(world, at / "run", first / "checkpoints/48", resumed)

        for rank in run_ranks(size, go_on, tmp_path / f"go-on-{size}"):
            torch.testing.assert_close(rank["weight"], undisturbed["weight"], rtol=1e-3, atol=1e-4)
            assert rank["images"] == undisturbed["images"] == 96


def run_to_the_end(world, folder, start=None, parallel="ddp"):
    trainer = make_trainer(folder, world, images=96, parallel=parallel)
    if start is not None:
        trainer.restore(start)
    trainer.train(rank_batches(batches(trainer.step_count), world), ())
    weight = full_tensor(next(trainer.model.parameters()).detach())
    return {"weight": weight, "images": trainer.images_seen}


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_rank_0_shows_the_averaged_model(parallel, tmp_path):
    def shown(world, at):
        trainer = make_trainer(at / "run", world, parallel=parallel, images=16)
        trainer.train(rank_batches(batches(), world), ())
        own = next(trainer.model.parameters())
        assert isinstance(own, DTensor) == (parallel == "fsdp")
        held = own.to_local() if isinstance(own, DTensor) else own
        with trainer.averaged(lambda: make_trainer(at / "other").model) as model:
            found = None if model is None else next(model.parameters()).detach().clone()
        return {"held": held.numel(), "all": own.numel(), "shown": found}

    first, second = run_ranks(2, shown, tmp_path)
    average = load_weights(tmp_path / "run/checkpoints/16", "ema")
    names = [name for name, _ in make_trainer(tmp_path / "names").model.named_parameters()]
    assert torch.equal(first["shown"], average[names[0]]) and second["shown"] is None
    assert (first["held"] < first["all"]) == (parallel == "fsdp")


def test_shared_further_averages_are_saved_whole_and_go_on(tmp_path):
    """Under FSDP2 each rank holds a shard; the files equal those of one process."""
    extra = (ShareHalfLife(share=0.3),)

    def kept(world, at, start=None):
        settings = {"images": 32, "parallel": "fsdp", "ema_extra": extra, "checkpoint_every": 16}
        trainer = make_trainer(at / "run", world, **settings)
        if start is not None:
            trainer.restore(start)
        trainer.train(rank_batches(batches(trainer.step_count), world), ())
        (average,) = trainer.extra.values()
        (held,) = {isinstance(x, DTensor) for x in average.weights.values()}
        return {"shared": held} | {name: full_tensor(x) for name, x in average.weights.items()}

    alone = kept(World(), tmp_path / "one")
    assert not alone.pop("shared")
    start = tmp_path / "two/run/checkpoints/16"
    for found in (
        run_ranks(2, kept, tmp_path / "two"),
        run_ranks(2, lambda world, at: kept(world, at, start), tmp_path / "again"),
    ):
        for rank in found:
            assert rank.pop("shared")
            for name, value in alone.items():
                torch.testing.assert_close(rank[name], value, rtol=1e-3, atol=1e-4)
    saved = load_weights(tmp_path / "again/run/checkpoints/32", "ema-share-0.3")
    assert all(torch.equal(saved[name], value) for name, value in found[0].items())


def test_all_stop_after_the_same_step_when_one_is_asked_to(tmp_path):
    def stopped(world, at):
        trainer = make_trainer(at / "run", world)

        def ask(report):
            if world.rank == 1 and report.images_seen == 24:
                os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(TrainingStoppedError) as error:
            trainer.train(rank_batches(batches(), world), [ask])
        return {"images": trainer.images_seen, "signal": error.value.signal}

    found = run_ranks(2, stopped, tmp_path)
    assert found == [{"images": 32, "signal": signal.SIGTERM}] * 2
    assert (tmp_path / "run/checkpoints/32").is_dir()


def test_others_wait_for_the_first_one_longer_than_for_a_step(tmp_path, monkeypatch):
    """As while rank 0 verifies a large cache; the step timeout is 1 s here."""
    monkeypatch.setattr(world_module, "STEP_TIMEOUT", timedelta(seconds=1))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    mp.start_processes(_wait_for_the_first, (tmp_path,), nprocs=2, start_method="fork")
    assert (tmp_path / "met").read_text() == "2"


def _wait_for_the_first(rank, folder):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    with distributed_world("cpu") as world:
        with world.rank0_first():
            if world.is_rank0:
                time.sleep(2.5)
        total = world.all_reduce_sum(torch.ones(1))
        if world.is_rank0:
            (folder / "met").write_text(str(int(total)))


@pytest.mark.parametrize(("cards", "rank"), [(3, 0), (3, 3), (1, 0)])
def test_fewer_cards_than_processes_are_refused_by_every_process(cards, rank, monkeypatch):
    """Before they connect, so that none waits for the others."""
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda *_, **__: pytest.fail("they met")
    )
    torchrun = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 8, "LOCAL_WORLD_SIZE": 4}
    torchrun |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, str(value))
    message = rf"--nproc-per-node of torchrun asks for 4 .* visible are {cards} .*{cards} or fewer"
    with pytest.raises(ValueError, match=message), distributed_world("auto"):
        pass
    assert taken == []


@pytest.mark.parametrize("missing", ["RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_a_variable_of_torchrun_that_is_missing_is_named(missing, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    names = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    for name in names:
        monkeypatch.setenv(name, "0")
    monkeypatch.delenv(missing)
    monkeypatch.setenv("WORLD_SIZE", "2")
    message = rf"WORLD_SIZE is 2, but {missing} not set: .* torchrun .*--nproc-per-node 2"
    with pytest.raises(ValueError, match=message), distributed_world("auto"):
        pass


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"train\.batch_size must be a multiple of the 3 proc.*8"):
        make_trainer(tmp_path, World(rank=0, size=3))


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_go_on_to_the_same_bits_after_one_was_killed(parallel, tmp_path):
    """Weights, averages, optimizer and the images of every batch; see kill_one_of_two.py."""
    settings = {"parallel": parallel, "images": 40, "checkpoint_every": 16}
    settings["ema_extra"] = (ShareHalfLife(share=0.3),)

    def run(world, at, folder, start=None, killed_at=None):
        trainer, indices = make_trainer(folder, world, **settings), []
        if start is not None:
            trainer.restore(start)

        def note(source):
            for batch in source:
                indices.append(batch.index)
                yield batch

        def kill(_):
            if world.rank == 1 and trainer.step_count == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)

        trainer.train(note(rank_batches(batches(trainer.step_count), world)), [kill])
        return {"indices": torch.stack(indices)}

    folders = [tmp_path / name for name in ("whole", "killed")]
    full_tensor = run_ranks(2, lambda w, at: run(w, at, folders[0]), tmp_path / "a")
    with pytest.raises(ProcessExitedException, match="SIGKILL"):
        run_ranks(2, lambda w, at: run(w, at, folders[1], killed_at=3), tmp_path / "b")
    start, _ = newest_intact_checkpoint(folders[1] / "checkpoints")
    assert start.name == "16"
    again = run_ranks(2, lambda w, at: run(w, at, folders[1], start), tmp_path / "c")
    for rank in (0, 1):
        assert torch.equal(again[rank]["indices"], full_tensor[rank]["indices"][2:])
    files = [sorted((folder / "checkpoints/40").iterdir()) for folder in folders]
    assert len(files[0]) == 5
    for one, other in zip(*files, strict=True):
        assert one.name == other.name and one.read_bytes() == other.read_bytes()

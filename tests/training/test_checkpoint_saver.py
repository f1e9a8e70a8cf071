# SPDX-License-Identifier: Apache-2.0
"""Asynchronous checkpoints: same bytes, errors and guarantees as synchronous ones."""

import multiprocessing
import os
import signal
import threading
import time

import pytest
from processes import run_ranks
from small_trainer import batches, make_monitor, make_trainer, rank_batches

from pippin.distributed.world import World
from pippin.runs import checkpoint
from pippin.runs.checkpoint import newest_intact_checkpoint
from pippin.system.signals import TrainingStoppedError
from pippin.training import state as checkpoint_saver
from pippin.training.averaging.config import ShareHalfLife

OVERLAP = {"checkpoint_overlap": True}


def files(run):
    return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file()}


@pytest.fixture
def slow(monkeypatch):
    """Slow down saving to some steps' time; maximum number of concurrent saves."""
    real, at_work, most = checkpoint_saver.save_checkpoint, [], [0]

    def write(*arguments, **settings):
        at_work.append(threading.current_thread())
        most[0] = max(most[0], len(at_work))
        time.sleep(0.1)
        real(*arguments, **settings)
        at_work.pop()

    monkeypatch.setattr(checkpoint_saver, "save_checkpoint", write)
    return most


@pytest.mark.parametrize(("size", "parallel"), [(1, "ddp"), (2, "ddp"), (2, "fsdp")])
def test_the_bytes_equal_those_of_synchronous_saving(size, parallel, tmp_path, slow):
    """Steps go on while a checkpoint is written: what it shares with them would change."""

    def run(world, at):
        settings = {"parallel": parallel, "ema_extra": (ShareHalfLife(share=0.3),), "images": 32}
        settings |= {"keep_checkpoints": 9, "checkpoint_every": 16}
        for name, beside in (("place", False), ("beside", True)):
            trainer = make_trainer(at / name, world, checkpoint_overlap=beside, **settings)
            trainer.train(rank_batches(batches(), world), [])
        return {"all": sorted(str(p.name) for p in (at / "beside/checkpoints").iterdir())}

    for rank in run_ranks(size, run, tmp_path):
        assert rank["all"] == ["16", "32"]
    assert files(tmp_path / "beside") == files(tmp_path / "place")


def test_later_steps_do_not_wait_and_do_not_change_what_is_written(tmp_path, monkeypatch):
    make_trainer(tmp_path / "place", images=80).train(batches(), [])
    real, go_on = checkpoint_saver.save_checkpoint, threading.Event()

    def late(folder, checkpoint, keep):
        assert go_on.wait(30)
        real(folder, checkpoint, keep=keep)

    monkeypatch.setattr(checkpoint_saver, "save_checkpoint", late)
    trainer = make_trainer(tmp_path / "beside", images=80, **OVERLAP)

    def release(report):
        if report.images_seen == 72:  # four steps after the checkpoint of image 40
            assert not (trainer.folder / "checkpoints").exists()
            go_on.set()

    trainer.train(batches(), [release])
    assert files(tmp_path / "beside") == files(tmp_path / "place")


def test_saves_are_sequential_and_complete_at_the_end(tmp_path, slow):
    trainer = make_trainer(tmp_path, images=32, checkpoint_every=8, keep_checkpoints=9, **OVERLAP)
    trainer.train(batches(), [])
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"8", "16", "24", "32"}
    assert slow == [1]


def test_a_full_disk_stops_the_loop_before_the_next_step(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pippin.system.tensors.save_file", full)
    seen = []

    def note(report):
        seen.append(report.images_seen)
        if trainer._saver._thread is not None:
            trainer._saver._thread.join()  # so that the time of the failure is known

    trainer = make_trainer(tmp_path, **OVERLAP)
    with pytest.raises(OSError, match="No space") as raised:
        trainer.train(batches(), [note])
    # begun after the step that ended at 40: it fails before the next one, or during it
    assert seen[-1] in (40, 48)
    assert raised.value.filename == str(tmp_path / "checkpoints/40/model.safetensors")
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    ("beside", "parallel", "first_image"),
    [(True, "ddp", 40), (True, "fsdp", 40), (True, "ddp", 80), (False, "ddp", 40)],
)
def test_all_ranks_stop_when_rank_0_cannot_write(
    beside, parallel, first_image, tmp_path, monkeypatch
):
    """After the same step, each with an OSError: no rank waits for one that has exited."""
    real = checkpoint_saver.save_checkpoint

    def full(folder, written, keep):
        if written.state["images_seen"] == first_image:
            raise OSError(28, "No space left on device")
        real(folder, written, keep=keep)

    monkeypatch.setattr(checkpoint_saver, "save_checkpoint", full)

    def run(world, at):
        settings = {"images": 80, "checkpoint_every": first_image, "parallel": parallel}
        trainer = make_trainer(at / "run", world, checkpoint_overlap=beside, **settings)

        def known(_):
            trainer._saver.wait()  # so that the time of the failure is known

        with pytest.raises(OSError) as error:
            trainer.train(rank_batches(batches(), world), [known])
        return {"steps": trainer.step_count, "said": str(error.value)}

    first, second = run_ranks(2, run, tmp_path)
    assert "No space left" in first["said"]
    assert "rank 0 failed to save the checkpoint" in second["said"]
    latest = first_image // 8 + (2 if beside and first_image < 80 else 0)
    assert first["steps"] == second["steps"] <= latest


def test_a_failure_during_another_error_is_a_warning(tmp_path, monkeypatch):
    go_on = threading.Event()

    def full(*_, **__):
        assert go_on.wait(30)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pippin.system.tensors.save_file", full)

    def fail(report):
        if report.images_seen == 48:  # while the checkpoint of image 40 is written
            go_on.set()
            raise RuntimeError("no preview")

    with (
        pytest.warns(UserWarning, match="a checkpoint was not saved: .*No space left"),
        pytest.raises(RuntimeError, match="no preview"),
    ):
        make_trainer(tmp_path, **OVERLAP).train(batches(), [fail])


def test_a_stop_waits_for_the_disk(tmp_path, slow):
    def send(_):
        if trainer.step_count == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer = make_trainer(tmp_path, **OVERLAP)
    with pytest.raises(TrainingStoppedError):
        trainer.train(batches(), [send])
    assert newest_intact_checkpoint(tmp_path / "checkpoints")[0].name == "24"


def test_actions_every_n_images_wait_for_the_checkpoint(tmp_path, slow):
    found = []

    def look(model, images):
        found.append([path.name for path in (tmp_path / "checkpoints").glob("[0-9]*")])

    trainer = make_trainer(tmp_path, images=80, **OVERLAP)
    trainer.train(batches(), [], [make_monitor(40, look)])
    assert [len(names) for names in found] == [1, 2] and found[0] == ["40"]


def test_a_kill_in_the_middle_leaves_the_previous_one(tmp_path):
    """Kill during the background save."""

    def train():
        real, calls = checkpoint.save_tensors, []

        def dying(path, tensors):
            calls.append(path)
            if len(calls) == 5:  # the second file of the second checkpoint
                os.kill(os.getpid(), signal.SIGKILL)
            real(path, tensors)

        checkpoint.save_tensors = dying
        make_trainer(tmp_path, **OVERLAP).train(batches(), [])

    child = multiprocessing.get_context("fork").Process(target=train)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert list((tmp_path / "checkpoints").glob(".writing-80-*"))
    newest, problems = newest_intact_checkpoint(tmp_path / "checkpoints")
    assert newest.name == "40" and not problems
    whole, resumed = make_trainer(tmp_path / "whole"), make_trainer(tmp_path, **OVERLAP)
    whole.train(batches(), [])
    resumed.restore(newest)
    resumed.train(batches(resumed.step_count), [])
    assert files(tmp_path / "whole/checkpoints") == files(tmp_path / "checkpoints")


def test_save_returns_after_the_checkpoint_is_written(tmp_path, slow):
    trainer = make_trainer(tmp_path, World(), **OVERLAP)
    trainer.step(next(batches()))
    trainer.save()
    assert newest_intact_checkpoint(tmp_path / "checkpoints")[0].name == "8"

# SPDX-License-Identifier: Apache-2.0
"""Checkpoints to which all ranks write: the values of one file, at every world size."""

import json
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from processes import run_ranks
from rich.console import Console
from safetensors.torch import load_file
from small_trainer import CONFIG, batches, make_trainer, rank_batches

from pippin.cli.failures import explain
from pippin.config import ConfigError
from pippin.distributed import shard_storage
from pippin.distributed.sharded_tensors import full_tensor
from pippin.distributed.world import World
from pippin.runs import checkpoint, checkpoint_state
from pippin.runs.checkpoint import load_checkpoint, load_weights, newest_intact_checkpoint
from pippin.runs.checkpoint_folders import has_all_files, list_checkpoints, staging_folder
from pippin.runs.checkpoint_state import CheckpointError, load_state
from pippin.runs.folder import RunFolder
from pippin.runs.storage import sharded_checkpoint
from pippin.system.formats import VERSION
from pippin.training import sharded_state
from pippin.training.averaging.config import ShareHalfLife
from pippin.training.resume import ResumeRequest, resumed_checkpoint
from pippin.training.sharded_state import gathered_bytes

EXTRA = {"ema_extra": (ShareHalfLife(share=0.3),)}
SHARDED = {"checkpoint_format": "sharded", **EXTRA}


def train_to(images, world, folder, parallel="fsdp", start=None, **settings):
    settings = {"images": images, "checkpoint_every": 16, "parallel": parallel, **settings}
    trainer = make_trainer(folder, world, **settings)
    if start is not None:
        trainer.restore(start)
    trainer.train(rank_batches(batches(trainer.step_count), world), ())
    return trainer


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The run of two ranks under FSDP, saved in both layouts."""
    folder = tmp_path_factory.mktemp("both")

    def run(world, at):
        train_to(32, world, at / "one", **EXTRA)
        train_to(32, world, at / "sharded", **SHARDED)

    run_ranks(2, run, folder)
    return folder


def test_the_tensors_equal_those_of_one_file(both):
    one, sharded = (load_checkpoint(both / name / "checkpoints/32") for name in ("one", "sharded"))
    assert list(one.parts) == list(sharded.parts)
    for part, tensors in one.parts.items():
        assert tensors.keys() == sharded.parts[part].keys()
        for name, tensor in tensors.items():
            found = sharded.parts[part][name]
            assert found.dtype == tensor.dtype and torch.equal(found, tensor), (part, name)
    ours, theirs = (dict(c.state, sha256=0, **{VERSION: 0}) for c in (one, sharded))
    assert ours == theirs


def test_every_rank_writes_its_shards_and_no_rank_a_copy(both):
    folder = both / "sharded/checkpoints/32"
    digests = load_state(folder)["sha256"]
    assert sorted(digests) == sorted(p.name for p in folder.glob("*.safetensors"))
    parts = ("model", "ema", "optimizer", "ema-share-0.3")
    assert set(digests) == {f"{p}-0000{r}-of-00002.safetensors" for p in parts for r in (1, 2)}
    for part in parts:
        held = [
            sum(x.numel() for x in load_file(folder / file).values())
            for file in digests
            if file.startswith(f"{part}-0000")
        ]
        full = load_file(both / f"one/checkpoints/32/{part}.safetensors")
        assert sum(held) == sum(x.numel() for x in full.values())
        assert min(held) > 0.3 * sum(held)


@pytest.mark.parametrize("kind", ["ema", "raw", "ema-share-0.3"])
def test_weights_are_read_by_one_process(kind, both):
    one, sharded = (load_weights(both / f"{n}/checkpoints/32", kind) for n in ("one", "sharded"))
    assert all(torch.equal(sharded[name], one[name]) for name in one) and len(sharded) == len(one)


def test_torch_reads_the_files_too(both):
    dcp = pytest.importorskip("torch.distributed.checkpoint")
    if not hasattr(dcp, "HuggingFaceStorageReader"):
        pytest.skip("this torch has no reader of safetensors")
    one = load_weights(both / "one/checkpoints/32", "raw")
    matrices = {f"model/{n}": torch.zeros_like(x) for n, x in one.items() if x.ndim}
    reader = dcp.HuggingFaceStorageReader(path=str(both / "sharded/checkpoints/32"))
    with pytest.warns(UserWarning, match="torch.distributed is disabled"):
        dcp.load(matrices, storage_reader=reader)
    assert all(torch.equal(x, one[n.removeprefix("model/")]) for n, x in matrices.items())


@pytest.mark.parametrize(
    ("size", "parallel", "written"), [(1, "ddp", "sharded"), (2, "fsdp", "sharded")]
)
def test_any_world_size_resumes_to_the_same_bits_as_from_one_file(
    size, parallel, written, both, tmp_path
):
    def run(world, at):
        last = {}
        for name in ("one", "sharded"):
            start = both / name / "checkpoints/16"
            trainer = train_to(
                32, world, at / name, parallel, start, checkpoint_format=written, **EXTRA
            )
            last[name] = [full_tensor(p.detach()) for p in trainer.model.parameters()]
        return {"equal": all(map(torch.equal, last["one"], last["sharded"]))}

    assert run_ranks(size, run, tmp_path) == [{"equal": True}] * size
    one, sharded = (load_checkpoint(tmp_path / f"{n}/checkpoints/32") for n in ("one", "sharded"))
    for part, tensors in one.parts.items():
        assert all(torch.equal(sharded.parts[part][name], x) for name, x in tensors.items())
    if size == 2:  # and to those of the run that was not interrupted
        whole = load_checkpoint(both / "one/checkpoints/32")
        assert all(torch.equal(sharded.ema[name], x) for name, x in whole.ema.items())


def test_other_shapes_and_averages_are_refused_by_name(both, tmp_path):
    start = both / "sharded/checkpoints/16"
    with pytest.raises(ValueError, match="has the further averages"):
        make_trainer(tmp_path).restore(start)
    wider = replace(make_trainer.__defaults__[1], width=32)
    with pytest.raises(ValueError, match="is of another model; tensors that differ"):
        make_trainer(tmp_path, denoiser=wider, **EXTRA).restore(start)


@pytest.fixture
def run(both, tmp_path):
    """Copy of the sharded run's checkpoints."""
    shutil.copytree(both / "sharded/checkpoints", tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def cut(file):
    file.write_bytes(file.read_bytes()[:-8])


def flip(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_damage_of_one_file_is_named_and_the_earlier_checkpoint_is_used(damage, run):
    file = run / "32/ema-00002-of-00002.safetensors"
    damage(file)
    found, problems = newest_intact_checkpoint(run)
    assert found == run / "16" and len(problems) == 1 and str(file) in problems[0]
    with pytest.raises(CheckpointError, match="ema-00002-of-00002"):
        load_checkpoint(run / "32")
    assert has_all_files(run / "32") == (damage is not Path.unlink)


def test_a_shard_that_the_record_lacks_is_noticed(run):
    """A record that was rewritten with a correct checksum of its own."""
    state = json.loads((run / "32/state.json").read_text())
    state["sha256"].pop("model-00002-of-00002.safetensors")
    state["state_sha256"] = checkpoint_state._state_digest(
        {name: value for name, value in state.items() if name != "state_sha256"}
    )
    (run / "32/state.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match=r"its shards of model/.* hold"):
        load_weights(run / "32", "raw")


def test_a_program_that_knows_one_layout_only_refuses_the_other_by_its_version(both):
    assert load_state(both / "one/checkpoints/32")[VERSION] == 1
    assert load_state(both / "sharded/checkpoints/32")[VERSION] == 2


def kill_in_save_of_32(where):
    """Make this rank kill itself at a point of saving the checkpoint of image 32."""
    module = shard_storage if where == "save_tensors" else sharded_checkpoint
    real = getattr(module, where)

    def kill(path, *arguments, **settings):
        if ".writing-32-" in str(path):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(path, *arguments, **settings)

    setattr(module, where, kill)


@pytest.mark.parametrize("where", ["save_tensors", "write_state", "complete_checkpoint"])
def test_a_kill_in_the_middle_leaves_the_earlier_checkpoint(where, both, tmp_path):
    """Kill a rank that writes, or rank 0 before the record or before the new name."""

    def run(world, at):
        if world.rank == (where == "save_tensors"):
            kill_in_save_of_32(where)
        train_to(32, world, at / "run", **SHARDED)

    with pytest.raises((mp.ProcessExitedException, mp.ProcessRaisedException)):
        run_ranks(2, run, tmp_path)
    folder = tmp_path / "run/checkpoints"
    assert [path.name for path in list_checkpoints(folder)] == ["16"]
    found, problems = newest_intact_checkpoint(folder)
    assert found == folder / "16" and problems == []
    left = len(list(folder.glob(".writing-32-*")))
    assert left == 1 or where == "save_tensors"  # rank 0 may survive long enough to remove it
    if where != "write_state":
        return

    def repeat(world, at):
        if world.rank == 0:  # with the process id of the killed one, as in a container
            (remains,) = folder.glob(".writing-32-*")
            remains.rename(staging_folder(folder / "32", os.getpid()))
        train_to(32, world, tmp_path / "run", start=found, **SHARDED)

    run_ranks(2, repeat, tmp_path / "again")
    assert sorted(path.name for path in folder.iterdir()) == ["16", "32"]
    for file in (both / "sharded/checkpoints/32").glob("*.safetensors"):
        assert (folder / "32" / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize("failing", [0, 1])
def test_all_ranks_stop_where_one_cannot_write(failing, tmp_path):
    """With the message of a full disk everywhere, which names the file and the rank."""

    def run(world, at):
        real = shard_storage.save_tensors

        def full(file, *arguments, **settings):
            if world.rank == failing and "-32-" in str(file):
                raise OSError(28, "No space left on device", str(file))
            real(file, *arguments, **settings)

        shard_storage.save_tensors = full
        with pytest.raises(OSError) as error:
            train_to(48, world, at / "run", **SHARDED)
        return {"said": explain(error.value, "train").message}

    ranks = run_ranks(2, run, tmp_path)
    folder = tmp_path / "run/checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["16"]
    own, other = (ranks[rank]["said"] for rank in (failing, 1 - failing))
    file = re.escape(str(folder / "32/")) + rf"/[\w.-]+-0000{failing + 1}-of-00002\.safetensors"
    advice = "No space left on device; free some space or choose another --folder"
    assert re.match(f"{file}: {advice}", own)
    assert re.match(f"{file}: rank {failing} failed to write its shards: {advice}", other)


def test_a_rank_without_the_folder_of_rank_0_says_what_to_do(tmp_path):
    """As on a machine that does not share the disk."""

    def run(world, at):
        real = Path.is_dir
        if world.rank == 1:
            Path.is_dir = lambda path: ".writing-16-" not in path.name and real(path)
        with pytest.raises(OSError) as error:
            train_to(16, world, at / "run", **SHARDED)
        return {"said": explain(error.value, "train").message}

    own, other = (rank["said"] for rank in reversed(run_ranks(2, run, tmp_path)))
    path, sees = tmp_path / "run/checkpoints/16", "this rank does not see the folder that rank 0"
    assert own.startswith(f"{path}: {sees} made: put the run folder on a disk that all machines")
    assert other.startswith(f"{path}: rank 1 failed to write its shards: {sees}")


def test_rank_0_alone_chooses_and_verifies_what_all_ranks_resume_from(run, tmp_path):
    """Otherwise a rank that sees another newest one would leave the others waiting for it."""
    flip(run / "32/ema-00002-of-00002.safetensors")

    def choose(world, at):
        folder, verified = (run.parent, at / "empty")[at.name == "apart" and world.rank], []
        real = checkpoint.file_digest
        checkpoint.file_digest = lambda file: verified.append(file) or real(file)
        try:
            quiet = Console(quiet=True)
            path = resumed_checkpoint(RunFolder(folder), ResumeRequest(resume=True), quiet, world)
        except ValueError as error:
            return {"said": str(error)}
        return {"path": str(path), "verified": len(verified) > 0}

    both_see = run_ranks(2, choose, tmp_path / "shared")
    path = str(run / "16")
    assert both_see == [{"path": path, "verified": True}, {"path": path, "verified": False}]
    zero, one = run_ranks(2, choose, tmp_path / "apart")
    assert zero == both_see[0]
    assert re.match(r"rank 1 does not see .*/empty/checkpoints/16, at which rank 0", one["said"])


def test_one_process_and_ddp_write_them_too_and_older_ones_are_removed(tmp_path):
    settings = {"keep_checkpoints": 1, **SHARDED}
    train_to(32, World(), tmp_path / "one", "ddp", **settings)
    run_ranks(2, lambda w, at: train_to(32, w, at, "ddp", **settings) and None, tmp_path / "two")
    for folder, ranks in ((tmp_path / "one", 1), (tmp_path / "two", 2)):
        (path,) = list_checkpoints(folder / "checkpoints")
        assert path.name == "32" and len(list(path.glob("model-*"))) == ranks
        assert load_weights(path, "ema").keys() == load_weights(path, "ema-share-0.3").keys()


def test_overlap_is_refused_by_name():
    with pytest.raises(ConfigError, match="exclude each other: all ranks write"):
        replace(CONFIG, checkpoint_format="sharded", checkpoint_overlap=True)


@pytest.mark.parametrize("memory", [None, 10**12, 1000])
def test_auto_shards_what_does_not_fit(memory, tmp_path):
    def run(world, at):
        sharded_state.main_memory = lambda: memory if world.rank == 0 else 1
        chosen = make_trainer(at / "run", world, parallel="fsdp").sharded
        copied = make_trainer(at / "run", world, parallel="ddp").sharded
        refused = ""
        try:
            make_trainer(at / "run", world, parallel="fsdp", checkpoint_overlap=True)
        except ConfigError as error:
            refused = str(error)
        return {"chosen": chosen, "copied": copied, "refused": "exclud" in refused}

    expected = memory == 1000
    result = {"chosen": expected, "copied": False, "refused": expected}
    assert run_ranks(2, run, tmp_path) == [result] * 2


@pytest.mark.parametrize("muon", [None, 0.02])
def test_the_size_of_the_state_is_that_on_disk(muon, tmp_path):
    trainer = train_to(16, World(), tmp_path, "ddp", muon_learning_rate=muon, **EXTRA)
    saved = load_checkpoint(tmp_path / "checkpoints/16")
    held = sum(x.nbytes for part in saved.parts.values() for x in part.values())
    assert gathered_bytes(trainer.model, trainer.averages, trainer.optimizers) == held

# SPDX-License-Identifier: Apache-2.0
"""Restarts by torchrun and Slurm: the same command, repeated by its launcher, resumes the run."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from forked_torchrun import forked_torchrun
from processes import run_ranks
from rich.console import Console

from pippin.cli.main import main
from pippin.distributed.attempts import agree_on_token
from pippin.distributed.ranks import RESTARTS, restarting_launcher
from pippin.runs.checkpoint import load_checkpoint
from pippin.runs.checkpoint_state import is_sharded, load_state
from pippin.training.train import train

KILL = '''
import os, signal
from pippin.training.loop import Trainer

step = Trainer.step


def step_or_die(self, *given, **settings):
    """Rank 1 dies in its fourth step, once; the last checkpoint is that of the second."""
    first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if first and os.environ["RANK"] == "1" and self.step_count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *given, **settings)


Trainer.step = step_or_die
'''
"""Module that is imported before the run."""


@pytest.fixture
def first_start(monkeypatch):
    """An environment without a restart."""
    for name in RESTARTS:
        monkeypatch.delenv(name, raising=False)


def test_a_killed_rank_comes_again_and_the_run_ends_as_an_uninterrupted_one(
    recipe, tmp_path, monkeypatch
):
    """Bit for bit, from a command without --resume, by two gloo processes that write their shards:
    they read them together in the second attempt. The other run writes the other layout."""
    cache = replace(recipe.cache, folder=str(tmp_path / "caches"))
    recipe = replace(recipe, cache=cache, train=replace(recipe.train, parallel="fsdp"))
    recipe.save(tmp_path / "config.json")
    (tmp_path / "kill_once.py").write_text(KILL)
    folder = tmp_path / "run"
    words = ["-m", "pippin", "train", "--config", str(tmp_path / "config.json")]
    words += ["--folder", str(folder), "--train.checkpoint-format", "sharded"]
    words += ["--import", "kill_once"]
    monkeypatch.syspath_prepend(tmp_path)
    with forked_torchrun(words, tmp_path, restarts=1) as (running, errors):
        running.join()
    assert running.exitcode == 0, errors.read_text()
    said = " ".join(errors.read_text().split())
    assert said.count("note: torchrun restarts this command, and") == 1  # rank 0 alone
    assert "resuming" in said and "at 32 images" in said

    def uninterrupted(world, at):
        train(recipe, tmp_path / "other", console=Console(quiet=True))
        return {"rank": world.rank}

    run_ranks(2, uninterrupted, tmp_path / "ranks")
    ours, theirs = (
        load_checkpoint(run / "checkpoints/64").parts for run in (folder, tmp_path / "other")
    )
    assert is_sharded(load_state(folder / "checkpoints/64"))
    for part, tensors in theirs.items():
        assert ours[part].keys() == tensors.keys()
        assert all(torch.equal(ours[part][key], tensors[key]) for key in tensors), part
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines if "loss" in line] == [16, 32, 48, 64]


@pytest.mark.parametrize("variable", [*RESTARTS])
def test_a_repeated_command_resumes_where_its_launcher_says_so(
    recipe, finished_run, first_start, monkeypatch, capsys, variable
):
    given = ["train", "--config", str(finished_run / "config.json"), "--folder", str(finished_run)]
    assert main(given) == 2
    assert "already holds a run; resume it with" in capsys.readouterr().err
    monkeypatch.setenv(variable, "1")
    assert main(given) == 0
    printed = capsys.readouterr()
    assert f"note: {RESTARTS[variable]} restarts this command, and" in printed.err
    assert printed.out.startswith("trained: ")
    for words in (["--no-resume"], ["--resume", "False"], ["--resume=False"]):
        assert main([*given, *words]) == 2
        assert "restarts this command" not in capsys.readouterr().err


def test_a_restart_before_the_first_checkpoint_starts(recipe, first_start, monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    recipe.save(tmp_path / "config.json")
    given = ["--config", str(tmp_path / "config.json"), "--folder", str(tmp_path / "run")]
    assert main(["train", *given, "--train.images", "16"]) == 0
    assert (tmp_path / "run" / "checkpoints" / "16").is_dir()


@pytest.mark.parametrize(
    ("environment", "launcher"),
    [
        ({}, None),
        ({"TORCHELASTIC_MAX_RESTARTS": "0"}, None),
        ({"SLURM_RESTART_COUNT": ""}, None),
        ({"TORCHELASTIC_MAX_RESTARTS": "2"}, "torchrun"),
        ({"TORCHELASTIC_MAX_RESTARTS": "0", "SLURM_RESTART_COUNT": "3"}, "Slurm"),
    ],
)
def test_the_launcher_that_restarts(first_start, monkeypatch, environment, launcher):
    for name, count in environment.items():
        monkeypatch.setenv(name, count)
    assert restarting_launcher() == launcher


@pytest.mark.parametrize("size", [1, 3])
def test_ranks_agree_on_a_token_whatever_earlier_attempts_left(size):
    """Names and answers of dead ranks lie in the store; each attempt has a token of its own."""
    store, tokens = dist.HashStore(), []
    for _ in range(3):
        with ThreadPoolExecutor(size) as ranks:
            given = [
                ranks.submit(agree_on_token, store, rank, size, timedelta(seconds=30))
                for rank in range(size)
            ]
        own = {future.result() for future in given}
        assert len(own) == 1
        tokens += own
    assert len(set(tokens)) == 3


def test_a_rank_that_never_starts_is_named():
    with pytest.raises(RuntimeError, match="ranks 1, 2 did not start in time"):
        agree_on_token(dist.HashStore(), 0, 3, timedelta(seconds=0.2))
    with pytest.raises(RuntimeError, match="rank 0 did not start in time"):
        agree_on_token(dist.HashStore(), 1, 3, timedelta(seconds=0.2))

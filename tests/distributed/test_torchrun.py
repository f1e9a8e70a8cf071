# SPDX-License-Identifier: Apache-2.0
"""Two processes under torchrun: numbers and images of one; a dead one ends the other."""

import json
import os
import re
import signal
import socket
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace

import pytest
import torch.multiprocessing as mp
from forked_python import wait_for_exit
from forked_torchrun import forked_torchrun
from safetensors.torch import load_file
from waiting import wait_for

from pippin.cli.main import main
from pippin.runs.checkpoint import load_state
from pippin.sampling.sample_folder import read_manifest

HANGS = 900
"""Seconds after which torchrun counts as hung; no test waits for them."""


def command(recipe, path, folder, **settings):
    path.mkdir(parents=True)
    cache = replace(recipe.cache, folder=str(path / "caches"), shard_size=8)  # built by both
    train = replace(recipe.train, **settings)
    replace(recipe, train=train, cache=cache).save(path / "config.json")
    given = ["--config", str(path / "config.json"), "--folder", str(folder)]
    return ["-m", "pippin", "train", *given]


def by_torchrun(words, folder):
    """Output of a command line in two processes of torchrun."""
    with forked_torchrun(words, folder) as (running, errors):
        wait_for_exit(running, HANGS)
    assert running.exitcode == 0, errors.read_text()
    return (folder / "output").read_text() + errors.read_text()


def in_forks(words, folder):
    """The same without torchrun, with its variables."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        world |= {"MASTER_PORT": str(free.getsockname()[1]), "CUDA_VISIBLE_DEVICES": ""}
    mp.start_processes(run_rank, (words[2:], world, folder), nprocs=2, start_method="fork")
    return "".join((folder / f"output-{rank}").read_text() for rank in range(2))


def run_rank(rank, words, world, folder):
    os.environ |= world | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    with (
        (folder / f"output-{rank}").open("w") as output,
        redirect_stdout(output),
        redirect_stderr(output),
    ):
        assert main(words) == 0


@pytest.mark.parametrize(("parallel", "start"), [("ddp", in_forks), ("fsdp", by_torchrun)])
def test_two_processes_make_the_run_of_one(recipe, finished_run, parallel, start, tmp_path):
    folder = tmp_path / "run"
    words = command(recipe, tmp_path / "given", folder, parallel=parallel, micro_batch_size=4)
    output = start(words, tmp_path)
    assert output.count("trained: ") == 1
    assert_one_rank_prints(output)
    ours, theirs = (
        load_file(f / "checkpoints/64/ema.safetensors") for f in (folder, finished_run)
    )
    assert max(float((ours[n] - theirs[n]).abs().max()) for n in theirs) < 1e-5
    lines = [json.loads(x) for x in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines if "loss" in line] == [16, 32, 48, 64]
    assert [line["images"] for line in lines if "held_out_loss" in line] == [32, 64]
    names = sorted(path.name for path in (folder / "previews").iterdir())
    assert names == ["000000032.png", "000000064.png"]


def assert_one_rank_prints(text):
    """Header, lines and events of a run of two processes, each once."""
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.search(r"^  device +cpu, threads 1; world size 2, (ddp|fsdp)$", text, re.M), text
    rows = r"16 images, 8 on each rank in micro-batches of 4"
    assert len(re.findall(rf"^  batch +{rows}$", text, re.M)) == 1
    for event in (
        "pippin train",
        "started: ",
        "checkpoint written: .*/32",
        "validation at image 32",
    ):
        assert len(re.findall(rf"^{time} {event}", text, re.M)) == 1, (event, text)
    assert len(re.findall(rf"^{time} training: 64 of 64 images", text, re.M)) == 1
    assert "" not in text.splitlines()


def test_a_dead_process_ends_the_other_and_is_named(recipe, tmp_path):
    folder = tmp_path / "run"
    settings = {"images": 160_000, "checkpoint_every": 32, "preview_every": 0, "validate_every": 0}
    words = command(recipe, tmp_path / "given", folder, **settings)
    said = killed_when(lambda: list((folder / "checkpoints").glob("[0-9]*")), words, tmp_path)
    assert "SIGKILL" in said and "rank      : 1" in said


def test_a_stop_of_torchrun_saves_first_and_is_told_once(recipe, tmp_path):
    """It signals the loaders of each process too."""
    folder = tmp_path / "run"
    settings = {"images": 160_000, "checkpoint_every": 160_000, "workers": 1}
    settings |= {"preview_every": 0, "validate_every": 0}
    words = command(recipe, tmp_path / "given", folder, **settings)
    with forked_torchrun(words, tmp_path) as (running, errors):
        log = folder / "log.jsonl"
        wait_for(lambda: log.exists() and log.read_text().count("\n") > 3, running.is_alive)
        running.terminate()
        wait_for_exit(running, HANGS)
    said = errors.read_text()
    (saved,) = (folder / "checkpoints").glob("[0-9]*")
    assert load_state(saved)["images_seen"] > 48
    assert said.count("stopped by signal 15; checkpoint") == 1
    assert said.count("; resume with: torchrun ... -m pippin train ") == 1
    assert "DataLoader worker" not in said


def test_a_killed_sampling_of_two_goes_on_in_one(finished_run, tmp_path):
    """And ends with the images of an undisturbed one."""
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    given = [str(finished_run), "--batch-size", "4", "--steps", "12"]
    words = ["-m", "pippin", "sample", *given, "--seeds", "0:4000", "--out", str(cut)]
    said = killed_when(lambda: list(cut.glob("seed-*")), words, tmp_path)
    assert "SIGKILL" in said and "rank      : 1" in said
    assert not read_manifest(cut).complete
    for folder in (cut, whole):
        assert main(["sample", *given, "--seeds", "0:16", "--out", str(folder)]) == 0
    images = {path.name: path.read_bytes() for path in whole.glob("seed-*")}
    assert images == {name: (cut / name).read_bytes() for name in images}
    assert len(images) == 16 and read_manifest(cut).complete


def killed_when(there, words, folder):
    """Errors of torchrun when its second process is killed."""
    with forked_torchrun(words, folder) as (running, errors):
        wait_for(there, running.is_alive)
        listed = ["pgrep", "-P", str(running.pid)]
        ranks = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
        os.kill(int(ranks[1]), signal.SIGKILL)
        wait_for_exit(running, HANGS)
        assert running.exitcode not in (None, 0)
    return errors.read_text()

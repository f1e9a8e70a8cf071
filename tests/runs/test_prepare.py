# SPDX-License-Identifier: Apache-2.0
"""``pippin data prepare`` by several processes of one command."""

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from forked_python import FORK, start_program
from processes import run_ranks
from rich.console import Console
from waiting import wait_for

from pippin.cli.main import main
from pippin.config import ConfigError
from pippin.data.cache import build, manifest
from pippin.data.cache.builders import Builders
from pippin.data.importing.config import ShardsConfig
from pippin.recipes.table import get_recipe
from pippin.runs.components import Components
from pippin.runs.data.streamed import encode_shards
from pippin.runs.prepare import builders_of, prepare, set_process_device

QUIET = Console(quiet=True)


def in_folder(recipe, folder):
    return replace(recipe, cache=replace(recipe.cache, folder=str(folder), shard_size=4))


def files(cache_folder):
    return {p.name: p.read_bytes() for p in cache_folder.iterdir() if p.name != "lock"}


def lives(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def alone(recipe, tmp_path_factory):
    return files(prepare(in_folder(recipe, tmp_path_factory.mktemp("one")), console=QUIET).folder)


def test_two_processes_make_what_one_makes(recipe, alone, tmp_path, monkeypatch):
    """The first encodes nothing before the second has made a shard. It is called in a thread; that
    the main one can do it is shown below."""
    encode = build.encode_images

    def patient(*given):
        wait_for(lambda: list(tmp_path.glob("*/shard-*.safetensors")))
        return encode(*given)

    monkeypatch.setattr(build, "encode_images", patient)
    with ThreadPoolExecutor(1) as pool:
        ours = in_folder(recipe, tmp_path)
        made = pool.submit(prepare, ours, processes=2, console=QUIET).result()
    assert files(made.folder) == alone


def prepare_slowly(words, output):
    """A command in a session of its own, so slow that there is something left to do when a signal
    comes."""
    os.setsid()
    with output.open("w") as file:  # a shell that starts tests in the background ignores Ctrl-C
        start_program({1: file, 2: file})
    encode = build.encode_images
    build.encode_images = lambda *given: (time.sleep(0.5), encode(*given))[1]
    sys.exit(main(words))


def test_ctrl_c_ends_all_with_one_message_and_the_command_goes_on(recipe, alone, tmp_path):
    config, output = tmp_path / "config.json", tmp_path / "output"
    in_folder(recipe, tmp_path / "caches").save(config)
    words = f"data prepare --config {config} --processes 2".split()
    running = FORK.Process(target=prepare_slowly, args=(words, output))
    running.start()
    try:
        wait_for(lambda: list(tmp_path.glob("caches/*/shard-*.safetensors")))
        os.killpg(running.pid, signal.SIGINT)
        running.join()
        said = output.read_text()
        assert running.exitcode == 75, said
        assert said.count("stopped; resume with: pippin data prepare ") == 1
        assert "Traceback" not in said
        wait_for(lambda: not lives(running.pid))
    finally:
        if running.is_alive():
            os.killpg(running.pid, signal.SIGKILL)
    (folder,) = tmp_path.glob("caches/*")
    assert not (folder / "manifest.json").exists()
    assert files(prepare(in_folder(recipe, tmp_path / "caches"), console=QUIET).folder) == alone


@pytest.mark.parametrize("damaged", [False, True])
def test_one_of_a_world_verifies_and_all_mend(recipe, alone, tmp_path, monkeypatch, damaged):
    recipe = in_folder(recipe, tmp_path / "caches")
    folder = prepare(recipe, console=QUIET).folder
    path = folder / "shard-00002.safetensors"
    if damaged:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    read, real = [], manifest.file_digest
    monkeypatch.setattr(manifest, "file_digest", lambda path: (read.append(path), real(path))[1])

    def work(world, _):
        return {
            "rows": len(Components(recipe, QUIET, builders_of(world)).moments),
            "read": len(read),
        }

    first, second = run_ranks(2, work, tmp_path / "meeting")
    assert files(folder) == alone
    assert first["rows"] == second["rows"] == 24
    shards = 3 if damaged else len(alone) - 1
    assert first["read"] >= shards and second["read"] == 0


def test_other_ranks_wait_for_rank_0_before_they_open_shards(tmp_path):
    recipe = get_recipe("folder/mmdit-disentangled")
    data = replace(recipe.data, path=str(tmp_path / "own"), resolution=32)
    train = replace(recipe.train, device="cpu")
    recipe = replace(in_folder(recipe, tmp_path / "caches"), data=data, train=train)

    def wait():
        raise InterruptedError

    builders = Builders(is_main=False, wait=wait)
    with pytest.raises(InterruptedError):
        encode_shards(recipe, ShardsConfig(source="none.tar"), builders, QUIET, given=True)
    assert not (tmp_path / "own").exists()


def test_numbers_that_make_no_sense_are_refused(recipe, monkeypatch):
    with pytest.raises(ConfigError, match="--processes must be 1 or more; got 0"):
        prepare(recipe, processes=0)
    card = replace(recipe, train=replace(recipe.train, device="cuda:1"))
    with pytest.raises(ConfigError, match="cuda:1 would put 2 processes on one GPU"):
        prepare(card, processes=2)


def test_each_process_takes_its_own_card(recipe, monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    cards = replace(recipe, train=replace(recipe.train, device="auto"))
    set_process_device(cards, 1, 2)
    assert taken == [1]
    with pytest.raises(
        ValueError, match=r"--processes asks for 3 processes .* are 2 .* 2 or fewer"
    ):
        prepare(cards, processes=3)  # before any other process starts
    set_process_device(recipe, 2, 3)  # on the processor
    assert taken == [1]

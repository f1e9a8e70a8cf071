# SPDX-License-Identifier: Apache-2.0
"""``pippin cache list`` and ``pippin cache clear``."""

import json
import subprocess
import sys

import pytest

from pippin.cli.main import main
from pippin.data.cache.cache_folders import list_caches, users_of
from pippin.recipes.table import get_recipe
from pippin.system.formats import write_versioned_json

USED, OTHER, TEXT = "0123456789abcdef", "fedcba9876543210", "text-0000000000000000"


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Three caches, one of which a run was trained with, and a folder of the user."""
    monkeypatch.chdir(tmp_path)
    for size, (key, source) in enumerate(((USED, "s1"), (OTHER, "s2"), (TEXT, None)), start=1):
        folder = tmp_path / "caches" / key
        folder.mkdir(parents=True)
        (folder / "lock").write_bytes(b"")
        (folder / "shard-00000.safetensors").write_bytes(bytes(size * 1_000_000))
        if source:
            ingredients = {"autoencoder": "a", "source": source, "split": "train"}
            ingredients |= {"data.kind": "images", "data.resolution": 64}
            values = {"key": key, "ingredients": ingredients}
            write_versioned_json(folder / "manifest.json", "latent cache", values)
    (tmp_path / "caches" / "mine").mkdir()
    run = tmp_path / "runs" / "first"
    (run / "checkpoints").mkdir(parents=True)
    get_recipe("folder/mmdit-disentangled").save(run / "config.json")
    inputs = {"autoencoder": "a", "text_encoder": None, "data": {"source_hash": "s1"}}
    (run / "inputs.json").write_text(json.dumps(inputs))
    return tmp_path / "caches"


def names(caches):
    return {path.name for path in caches.iterdir()}


def test_list_shows_sizes_content_and_use(caches, capsys):
    assert main(["cache", "list"]) == 0
    *lines, total = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [TEXT, OTHER, USED]  # the largest first
    assert "3.0 MB  caption features  unused" in lines[0]
    assert "2.0 MB  images 64 px train  unused" in lines[1]
    assert "1.0 MB  images 64 px train  used by a run" in lines[2]
    assert total == "3 caches in caches, 6.0 MB"


def test_clear_unused_deletes_what_no_run_uses(caches):
    assert main(["cache", "clear", "--unused", "--yes"]) == 0
    assert names(caches) == {USED, "mine"}


def test_clear_unused_keeps_a_cache_of_a_newer_version(caches, capsys):
    path = caches / OTHER / "manifest.json"
    path.write_text(json.dumps({"format": 99}))
    assert main(["cache", "clear", "--unused", "--yes"]) == 0
    assert names(caches) == {USED, OTHER, "mine"}
    assert main(["cache", "list"]) == 0
    assert "of a newer pippin  kept" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["inputs.json", "config.json"])
def test_clear_unused_keeps_all_caches_beside_a_run_of_a_newer_version(name, caches, capsys):
    (caches.parent / "runs" / "first" / name).write_text(json.dumps({"format": 99}))
    before = names(caches)
    assert main(["cache", "clear", "--unused", "--yes"]) == 0
    assert names(caches) == before
    assert f"{name} was written by a newer pippin" in capsys.readouterr().err


def test_clear_deletes_named_caches_or_all(caches, capsys):
    assert main(["cache", "clear", OTHER, "--yes"]) == 0
    assert names(caches) == {USED, TEXT, "mine"}
    assert main(["cache", "clear", "nothing", "--yes"]) == 2
    assert "has no cache nothing" in capsys.readouterr().err
    assert main(["cache", "clear", "--yes"]) == 0
    assert names(caches) == {"mine"}
    assert main(["cache", "clear", "--yes"]) == 0


@pytest.mark.parametrize(("answer", "left"), [("n", 4), ("", 4), ("y", 1)])
def test_clear_asks_on_a_terminal(answer, left, caches, monkeypatch):
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr("builtins.input", lambda question: answer)
    assert main(["cache", "clear"]) == 0
    assert len(names(caches)) == left


def test_clear_does_not_delete_where_nobody_can_answer(caches, capsys):
    assert main(["cache", "clear"]) == 2
    assert "--yes" in capsys.readouterr().err
    assert len(names(caches)) == 4


def test_files_of_the_user_stay(caches):
    (caches / OTHER / "notes.txt").write_text("mine")
    assert main(["cache", "clear", "--yes"]) == 0
    assert [path.name for path in (caches / OTHER).iterdir()] == ["notes.txt"]


HOLD = """
import sys, mmap
from pathlib import Path
from pippin.data.cache.shard_claims import ShardClaims
cache = Path(sys.argv[2])
if sys.argv[1] == "build":
    claims = ShardClaims(cache)
    with claims.exclusive():
        assert claims.is_only_builder()
        claims.start_build(1, [False])
else:
    file = open(cache / "shard-00000.safetensors", "rb")
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    file.close()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("how", "reason"), [("build", "being built"), ("read", "reads it")])
def test_a_cache_in_use_is_kept(how, reason, caches, capsys):
    command = [sys.executable, "-c", HOLD, how, str(caches / OTHER)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == b"ready\n"
        assert reason in users_of(caches / OTHER)
        assert main(["cache", "clear", "--yes"]) == 1
        process.stdin.close()
    assert names(caches) == {OTHER, "mine"}
    assert reason in capsys.readouterr().err
    assert users_of(caches / OTHER) == ""


def test_no_folder_of_caches(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert list_caches(tmp_path / "caches") == []
    assert main(["cache", "list"]) == 0
    assert "0 caches" in capsys.readouterr().out

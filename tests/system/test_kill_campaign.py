# SPDX-License-Identifier: Apache-2.0
"""``scripts/kill_and_resume.py`` finds what a kill costs, on verbs of milliseconds."""

import importlib
import json
import multiprocessing
import os
import random
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

SCRIPTS = Path(__file__).parents[2] / "scripts"
FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(SCRIPTS))
    yield importlib.import_module("kill_and_resume")
    sys.path.remove(str(SCRIPTS))


@pytest.fixture
def campaign(script, tmp_path, monkeypatch):
    (tmp_path / "inputs").mkdir()
    monkeypatch.setitem(script.VERBS, "good", verb(script, good))
    monkeypatch.setitem(script.VERBS, "forgetful", verb(script, forgetful))
    monkeypatch.setitem(script.VERBS, "orphans", verb(script, orphans))
    return script.Campaign(tmp_path, rounds=2, seed=0)


def verb(script, work):
    return script.Verb(call=lambda inputs: work)


def children_of(wait):
    """Two, which end with their parent or do not."""
    children = [FORK.Process(target=wait, daemon=True) for _ in range(2)]
    for child in children:
        child.start()
    return children


def wait_bound():
    from pippin.system.children import end_with_parent

    end_with_parent()
    time.sleep(60)


def good():
    """Six files, each whole; children that end with it."""
    children = children_of(wait_bound)
    for number in range(6):
        time.sleep(0.05)
        Path(".part").write_text(str(number))
        os.replace(".part", str(number))
        if any(child.exitcode for child in children):
            sys.stdout.write("error: a worker was killed\n")
            return 1
    for child in children:
        child.kill()
        child.join()
    return 0


def forgetful():
    """What it writes depends on how often it is begun."""
    with open("calls", "a") as file:
        file.write("x")
    return good()


def orphans():
    children = children_of(lambda: time.sleep(60))
    time.sleep(0.3)
    for child in children:
        child.kill()
        child.join()
    return 0


def test_a_verb_that_goes_on_comes_out_equal(campaign):
    seen = campaign.run("good")
    assert seen.faults == [] and seen.outputs == 6
    assert set(seen.hits) <= {"parent", "child", "group"} and sum(seen.hits.values()) > 0
    assert seen.row("good").endswith("| all 6 equal |")


def test_a_difference_is_named(campaign):
    seen = campaign.run("forgetful")
    # Where the machine is busy, a kill may come before the first call.
    assert seen.faults and all(one.endswith(": 1 differ, such as calls") for one in seen.faults)


def test_so_are_processes_that_outlive_their_parent(campaign, monkeypatch):
    monkeypatch.setattr("kills.trial.ENDING", 1.5)
    seen = campaign.run("orphans")
    orphans = [one for one in seen.faults if "processes outlive their parent: " in one]
    assert any(one.startswith("parent") for one in orphans)
    assert not any(one.startswith("group") for one in orphans)


def test_a_kill_in_three_ways(script, tmp_path):
    trial = importlib.import_module("kills.trial")
    for who, code in (("parent", -9), ("group", -9), ("child", 1)):
        call = trial.Call(work=good, folder=tmp_path, log=tmp_path / "log")
        while not trial.descendants(call.pid):
            time.sleep(0.01)
        below = call.kill(who, random.Random(0))
        assert below and call.wait(10) and call.code == code
        assert trial.survivors(below) == {}


def test_what_is_compared(script, tmp_path):
    digests = importlib.import_module("kills.digests").digests
    for name, order, seconds in (("a", 1, 1.0), ("b", -1, 2.0)):
        place = tmp_path / name
        place.mkdir()
        (place / ".lock").write_text(name)
        state = {"step": 3, "seconds": seconds, "inputs": {"places": {"cache.folder": name}}}
        (place / "state.json").write_text(json.dumps(state | {"state_sha256": name}))
        lines = [
            {"name": n, "written": name, "value": 1.0, "content_sha256": name + n} for n in "xy"
        ][::order]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (place / "results.jsonl").write_text(text)
        header = {str(n): "x" for n in range(9)}
        save_file({"w": torch.ones(2)}, place / "w.safetensors", header)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    save_file({"w": torch.zeros(2)}, tmp_path / "b" / "w.safetensors", header)
    (tmp_path / "b" / ".x.4.writing").write_text("half")
    found, wanted = digests(tmp_path / "b"), digests(tmp_path / "a")
    assert {n for n in {**found, **wanted} if found.get(n) != wanted.get(n)} == {
        "w.safetensors",
        ".x.4.writing",
    }

# SPDX-License-Identifier: Apache-2.0
"""``scripts/kill_and_resume.py`` detects the damage of a kill, on verbs of milliseconds."""

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
    monkeypatch.setitem(script.VERBS, "orphans", verb(script, orphans, ("parent", "group")))
    return script.Campaign(tmp_path, rounds=1, seed=0)


def verb(script, work, kinds=("parent", "child", "group")):
    return script.Verb(call=lambda inputs: work, kinds=kinds)


def children_of(wait):
    """Two children, which end with their parent or not."""
    children = [FORK.Process(target=wait, daemon=True) for _ in range(2)]
    for child in children:
        child.start()
    return children


def wait_bound():
    from pippin.system.workers.processes import end_with_parent

    end_with_parent()
    time.sleep(60)


def good():
    """Write six files atomically; children end with the process."""
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
    """Output depends on the number of starts."""
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


def test_a_verb_that_resumes_gives_equal_results(campaign):
    result = campaign.run("good")
    assert result.faults == [] and result.outputs == 6
    assert set(result.hits) <= {"parent", "child", "group"} and sum(result.hits.values()) > 0
    assert result.row("good").endswith("| all 6 equal |")


def test_a_difference_is_named(campaign):
    result = campaign.run("forgetful")
    # On a busy machine a kill may come before the first call.
    assert result.faults and all(
        fault.endswith(": 1 differ, such as calls") for fault in result.faults
    )


def test_processes_that_outlive_their_parent_are_named(campaign, monkeypatch):
    monkeypatch.setattr("kills.trial.EXIT_TIMEOUT", 1.5)
    result = campaign.run("orphans")
    orphans = [fault for fault in result.faults if "processes outlive their parent: " in fault]
    assert any(fault.startswith("parent") for fault in orphans)
    assert not any(fault.startswith("group") for fault in orphans)


def test_the_three_kinds_of_kill(script, tmp_path):
    trial = importlib.import_module("kills.trial")
    for who, code in (("parent", -9), ("group", -9), ("child", 1)):
        call = trial.Call(work=good, folder=tmp_path, log=tmp_path / "log")
        while not trial.descendants(call.pid):
            time.sleep(0.01)
        below = call.kill(who, random.Random(0))
        assert below and call.wait(trial.LONGEST) and call.code == code
        assert trial.survivors(below) == {}


def test_times_and_locks_are_not_compared(script, tmp_path):
    digests = importlib.import_module("kills.digests").digests
    for name, order, seconds in (("a", 1, 1.0), ("b", -1, 2.0)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / ".lock").write_text(name)
        state = {"step": 3, "seconds": seconds, "inputs": {"places": {"cache.folder": name}}}
        (folder / "state.json").write_text(json.dumps(state | {"state_sha256": name}))
        lines = [
            {"name": n, "written": name, "value": 1.0, "content_sha256": name + n} for n in "xy"
        ][::order]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "results.jsonl").write_text(text)
        header = {str(n): "x" for n in range(9)}
        save_file({"w": torch.ones(2)}, folder / "w.safetensors", header)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    save_file({"w": torch.zeros(2)}, tmp_path / "b" / "w.safetensors", header)
    (tmp_path / "b" / ".x.4.writing").write_text("half")
    changed, expected = digests(tmp_path / "b"), digests(tmp_path / "a")
    assert {n for n in {**changed, **expected} if changed.get(n) != expected.get(n)} == {
        "w.safetensors",
        ".x.4.writing",
    }

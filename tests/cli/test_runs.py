# SPDX-License-Identifier: Apache-2.0
"""``pippin runs``: state of runs, read from their files."""

import json
import sys
from dataclasses import replace

import pytest

from pippin.cli.main import main
from pippin.recipes.table import get_recipe
from pippin.runs.folder import RunFolder
from pippin.runs.overview import find_runs, nearest_recipe, overview
from pippin.system.lines import append_lines
from pippin.system.lock import folder_lock, is_locked

RECIPE = "openmoji/dit-disentangled"


def make_run(folder, seen, *, losses=(), images=1000):
    """Run folder with a checkpoint at ``seen`` images and a log."""
    recipe = get_recipe(RECIPE)
    recipe = replace(recipe, train=replace(recipe.train, images=images))
    checkpoint = RunFolder(folder).checkpoints / str(seen)
    checkpoint.mkdir(parents=True)
    recipe.save(RunFolder(folder).config)
    (checkpoint / "state.json").write_text(json.dumps({"sha256": {"raw.safetensors": "0"}}))
    (checkpoint / "raw.safetensors").write_bytes(b"")
    append_lines(RunFolder(folder).log, [{"images": n, "loss": loss} for n, loss in losses])
    return folder


def test_states(tmp_path):
    finished = make_run(tmp_path / "a", 1024, losses=[(512, 0.5), (1024, 0.25)])
    interrupted = make_run(tmp_path / "b", 500)
    damaged = make_run(tmp_path / "c", 500)
    (damaged / "checkpoints" / "500" / "raw.safetensors").unlink()
    unreadable = make_run(tmp_path / "d", 1024)
    RunFolder(unreadable).config.write_text("{")
    states = [overview(run) for run in (finished, interrupted, damaged, unreadable)]
    wanted = ["finished", "interrupted", "damaged", "damaged"]
    assert [run.state for run in states] == wanted
    assert [run.images_seen for run in states] == [1024, 500, 500, 1024]
    assert [run.images for run in states] == [1000, 1000, 1000, None]
    assert states[0].loss == 0.25 and states[1].loss is None
    assert "lacks files" in states[2].problem and "config.json" in states[3].problem


def test_a_held_lock_means_running_and_the_log_tells_its_images(tmp_path):
    run = make_run(tmp_path / "a", 500, losses=[(700, 0.5)])
    assert not is_locked(run) and not (run / ".lock").exists()
    with folder_lock(run):
        assert (overview(run).state, overview(run).images_seen) == ("running", 700)
    assert (overview(run).state, overview(run).images_seen) == ("interrupted", 500)


def test_a_cut_last_line_of_the_log_is_skipped(tmp_path):
    run = make_run(tmp_path / "a", 500, losses=[(400, 0.5)])
    with RunFolder(run).log.open("a") as log:
        log.write('{"images": 500, "note": "x"}\n{"images": 500, "lo')
    assert overview(run).loss == 0.5


def test_the_nearest_recipe_with_the_number_of_changes():
    recipe = get_recipe(RECIPE)
    assert nearest_recipe(recipe) == RECIPE
    changed = replace(recipe, train=replace(recipe.train, images=1, batch_size=2))
    assert nearest_recipe(changed) == f"{RECIPE} + 2"
    assert nearest_recipe(replace(recipe, family="own")) == "own"


def test_runs_of_studies_are_found_and_exports_are_not(tmp_path):
    make_run(tmp_path / "study" / "runs" / "arm-0", 500)
    make_run(tmp_path / "first", 500)
    make_run(tmp_path / "first" / "inside", 500)
    (tmp_path / "exported").mkdir()
    get_recipe(RECIPE).save(tmp_path / "exported" / "config.json")
    names = {str(run.relative_to(tmp_path)) for run in find_runs(tmp_path)}
    assert names == {"study/runs/arm-0", "first"}
    assert list(find_runs(tmp_path / "first")) == [tmp_path / "first"]


def test_the_table(tmp_path, capsys):
    make_run(tmp_path / "a", 1024, losses=[(1024, 0.25)])
    make_run(tmp_path / "[red]b", 500)
    assert main(["runs", str(tmp_path)]) == 0
    (first,) = (x for x in capsys.readouterr().out.splitlines() if "finished" in x)
    assert [cell.strip() for cell in first.strip("│").split("│")] == [
        "a",
        f"{RECIPE} + 1",
        "1,024 of 1,000",
        "finished",
        "0.25",
    ]


@pytest.mark.parametrize(("name", "code", "text"), [("", 0, "no runs in"), ("x", 2, "no folder")])
def test_no_runs(name, code, text, tmp_path, capsys):
    assert main(["runs", str(tmp_path / name)]) == code
    printed = capsys.readouterr()
    assert text in printed.out + printed.err


def test_without_torch():
    import subprocess

    code = "import sys, pippin.runs.overview, pippin.cli.cache; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

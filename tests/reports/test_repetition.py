# SPDX-License-Identifier: Apache-2.0
"""Commands of a page work in the folder of the page."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from pippin.cli.parsing.options import parse
from pippin.cli.recipe_argument import find_recipe
from pippin.cli.study import StudyCommand
from pippin.cli.train import TrainCommand
from pippin.recipes.table import load_recipe
from pippin.reports.repetition import repetition
from pippin.reports.report import render_report
from pippin.reports.report_data import open_source
from pippin.studies.declaration import Declaration


def commands(folder, page):
    return [shlex.split(command) for command in repetition(open_source(folder), page).commands]


@pytest.mark.parametrize("place", [".", "..", "elsewhere/deep"])
def test_a_run_is_trained_again_by_the_command_of_its_page(finished, monkeypatch, place):
    """The command is read where the page is, and gives the recipe of the run."""
    run = finished / "runs/entangled-seed0"
    page = run / place / "report.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(page.parent)
    (words,) = commands(run, page)
    assert words[:2] == ["pippin", "train"]
    _, recipe, rest = find_recipe(words[2:])
    command = parse(TrainCommand, "pippin train", rest, TrainCommand(recipe=recipe))
    assert command.recipe == load_recipe(run / "config.json")
    assert command.folder.resolve() == run.resolve().parent / "entangled-seed0-again"


def test_names_with_spaces_are_quoted(finished, monkeypatch):
    run = finished / "my runs; rm x"
    (finished / "runs/entangled-seed0").rename(run)
    monkeypatch.chdir(run)
    (words,) = commands(run, Path("report.html"))
    assert words[:4] == ["pippin", "train", "--config", "config.json"]
    assert words[4:] == ["--folder", "../my runs; rm x-again"]


def test_a_page_that_stays_without_its_runs_names_the_folder_where_it_is(finished, tmp_path):
    kept = tmp_path / "results" / "kept"
    kept.mkdir(parents=True)
    written = render_report(finished, kept / "report.html", repeated_in=kept)
    page = written.read_text(encoding="utf-8")
    assert "<pre>pippin study run demo --folder ../kept-again</pre>" in page
    assert "--folder . it does the unfinished runs" in page and "/study" not in page


def declared(folder, **changes):
    declaration = replace(Declaration.load(folder / "study.json"), **changes)
    return replace(open_source(folder), declaration=declaration)


def test_a_study_is_repeated_in_a_folder_beside_its_own(finished):
    made = repetition(open_source(finished), finished / "report.html")
    assert made.setup == ("pip install .",)
    assert made.commands == ("pippin study run demo --folder ../study-again",)
    assert "--folder . it does the unfinished runs" in made.note
    page = render_report(finished).read_text(encoding="utf-8")
    assert "<pre>pippin study run demo --folder ../study-again</pre>" in page


def test_added_seeds_and_recorded_paths_enter_the_command(finished):
    line = "pippin study run x --scale cpu --seeds 0 1 --data-path FOLDER"
    arms = Declaration.load(finished / "study.json").arms
    arms = {name: recipe | {"data": {"path": "my images"}} for name, recipe in arms.items()}
    source = declared(finished, reproduce=(line,), first_seeds=(0, 1), arms=arms)
    (command,) = repetition(source, finished / "report.html").commands
    words = shlex.split(command)
    parsed = parse(StudyCommand, "pippin study run x", words[4:], StudyCommand())
    assert parsed.seeds == ("0", "1", "2") and parsed.data_path == "my images"
    assert parsed.folder == Path("../study-again") and parsed.scale == "cpu"


def test_other_commands_stay_as_declared(finished):
    source = declared(finished, reproduce=("pip install .", "python own.py --a 'b"))
    made = repetition(source, finished / "report.html")
    assert made.commands == ("python own.py --a 'b",)
    assert made.note == "As the study declares them."
    nothing = repetition(declared(finished, reproduce=()), finished / "report.html")
    assert nothing.commands == () and nothing.note == "The study declares no commands."

# SPDX-License-Identifier: Apache-2.0
"""The examples of the documentation run; test_docs_site.py has its links."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from example_programs import imported_examples

from pippin.cli.parsing.options import parse
from pippin.cli.train import TrainCommand, find_recipe
from pippin.recipes.checks import check_recipe
from pippin.recipes.recipe import Recipe
from pippin.reports.markdown import markdown
from pippin.reports.report_data import open_source

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


def name_of(page):
    """The path of a page from the root of the repository."""
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_examples_run(page, tmp_path):
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    if not blocks:
        return
    code = "import torch; torch.set_num_threads(1)\n" + "\n".join(blocks)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_chains_of_training_name_recipes_runs_and_rules_that_exist():
    lines = re.findall(
        r"^    pippin train (paper/.+)$", (ROOT / "docs/reference/transfer.md").read_text(), re.M
    )
    made: dict[str, Recipe] = {}
    for line in lines:
        _, recipe, rest = find_recipe(shlex.split(line))
        command = parse(TrainCommand, "pippin train", rest, TrainCommand(recipe=recipe))
        check_recipe(command.recipe)
        start = command.recipe.init.run
        if start in made:
            assert type(made[start].denoiser) is type(command.recipe.denoiser), line
        made[str(command.folder)] = command.recipe
    assert len(made) == len(lines) >= 5


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_of_training_are_understood(page):
    lines = re.findall(r"^    pippin train (\w+/.+)$", page.read_text(), re.M)
    for line in lines:
        if "..." in line or "--help" in line:
            continue
        with imported_examples(shlex.split(line, comments=True)) as words:
            _, recipe, rest = find_recipe(words)
            check_recipe(parse(TrainCommand, "", rest, TrainCommand(recipe=recipe)).recipe)


def test_nothing_names_a_machine():
    pattern = re.compile(r"/(?:home|root|work|tmp|Users)/[A-Za-z.]")
    for page in PAGES:
        assert not pattern.search(page.read_text(encoding="utf-8")), page.name


@pytest.mark.parametrize(
    "folder", sorted((ROOT / "results").glob("*/study.json")), ids=lambda p: p.parent.name
)
def test_tables_of_results_are_those_of_their_files(folder):
    source = open_source(folder.parent)
    assert not source.problems
    assert folder.parent.name == source.declaration.name
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert markdown(source) in page, "python scripts/keep_results.py STUDY renews it"
    for file in folder.parent.iterdir():
        assert file.stat().st_size < 5_000_000, file


def test_the_table_of_claims_is_that_of_the_kept_results():
    script = ROOT / "scripts" / "claims_table.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, f"python scripts/claims_table.py renews it\n{done.stderr}"


def test_requirements_name_tests_that_exist():
    page = (ROOT / "docs/reference/requirements.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", page)
    assert len(re.findall(r"^\| \d+ \|", page, re.M)) == 25 and len(named) >= 40
    for file, test in named:
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert f"def {test or 'test_'}" in text, f"{file}::{test}"

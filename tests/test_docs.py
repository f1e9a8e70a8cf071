# SPDX-License-Identifier: Apache-2.0
"""The examples of the documentation run; test_docs_site.py has its links."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from example_programs import imported_examples
from forked_python import run_code

from pippin.cli.parsing.options import parse
from pippin.cli.recipe_argument import find_recipe
from pippin.cli.train import TrainCommand
from pippin.recipes.checks import check_recipe
from pippin.recipes.recipe import Recipe
from pippin.reports.markdown import markdown
from pippin.reports.report_data import open_source
from pippin.studies.shipped.table import STUDIES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
EXAMPLES = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]


def name_of(page):
    """The path of a page from the root of the repository."""
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", EXAMPLES, ids=name_of)
def test_python_examples_run(page, tmp_path):
    done = run_code("\n".join(BLOCK.findall(page.read_text("utf-8"))), tmp_path)
    assert done.returncode == 0, done.stdout


def test_a_failing_example_is_noticed(tmp_path):
    """A program starts without names of an earlier program."""
    for program, code, said in [
        ("kept = 1; import sys; sys.exit(3)", 3, ""),
        ("kept", 1, "NameError: name 'kept' is not defined"),
        ("import pippin.absent", 1, "ModuleNotFoundError"),
        ("import os; print(os.getcwd(), flush=True); os.abort()", -6, str(tmp_path)),
    ]:
        done = run_code(program, tmp_path)
        assert done.returncode == code and said in done.stdout, program


def test_an_example_without_end_is_killed(tmp_path):
    with pytest.raises(subprocess.TimeoutExpired) as raised:
        run_code("print('began', flush=True); import time; time.sleep(60)", tmp_path, timeout=3)
    assert raised.value.output == "began\n" and not (tmp_path / ".output").exists()


def test_sizes_in_the_comparison_are_those_of_the_sources():
    """Lines and thousands of characters of each row, up to 5 %: small changes need no new page."""
    page = (ROOT / "docs/project/comparison.md").read_text(encoding="utf-8")
    rows = re.findall(r"`((?:denoisers|training)/\w+)/`.*?: (\d+) lines, ([\d.]+)", page)
    assert len(rows) == 4
    for folder, lines, thousands in rows:
        place = ROOT / "src/pippin" / folder
        names = ("model.py", "config.py") if "denoisers" in folder else ("*.py",)
        files = [path for name in names for path in place.glob(name)]
        if folder == "training/repa":
            files.append(ROOT / "src/pippin/objective/alignment.py")
        text = "".join(path.read_text(encoding="utf-8") for path in files)
        assert len(text.splitlines()) == pytest.approx(int(lines), rel=0.05), folder
        assert len(text) / 1000 == pytest.approx(float(thousands), rel=0.05), folder


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
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"^    pippin train (\w+/.+)$", text, re.M)
    for line in lines:
        if "..." in line or "--help" in line:
            continue
        with imported_examples(shlex.split(line, comments=True)) as words:
            _, recipe, rest = find_recipe(words)
            check_recipe(parse(TrainCommand, "", rest, TrainCommand(recipe=recipe)).recipe)


def test_prose_has_up_to_100_characters_a_line():
    """Tables, code, images and what reports write into docs/results.md may have more."""
    for page in PAGES:
        text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        free = ("|", "    ", "![") + (("- ", "**") if page.name == "results.md" else ())
        lines = [one for one in text.splitlines() if not one.startswith(free)]
        assert [one for one in lines if len(one) > 100] == [], page.name


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
    assert markdown(source) in page, "python scripts/keep_results.py --tables renews it"
    for file in folder.parent.iterdir():
        assert file.stat().st_size < 6_000_000, file  # rankings: 60 runs, three parts each


def test_commands_of_kept_pages_name_their_own_folders():
    """Not those of the machine on which a page was made."""
    pages = sorted((ROOT / "results").glob("*/report.html"))
    assert len(pages) > 10
    for page in pages:
        text = page.read_text(encoding="utf-8")
        folders = set(re.findall(r"--folder (\S+?)(?:</pre>|\s)", text))
        assert folders <= {".", f"../{page.parent.name}-again"}, page


@pytest.mark.parametrize("page", sorted((ROOT / "results").glob("*/report.html")), ids=name_of)
def test_notes_of_kept_pages_fit_their_kind_of_study(page):
    """Chance by metric, as levels are corrected for arms; no verdict words where claims decide."""
    text = page.read_text(encoding="utf-8")
    assert "some Δ excludes zero by chance" in text and "one Δ in twenty" not in text
    assert "Every Δ here is exploratory" not in text or "the word after it" not in text


def test_the_table_of_claims_is_that_of_the_kept_results(tmp_path):
    script = ROOT / "scripts" / "claims_table.py"
    program = f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    done = run_code(program, tmp_path, "--check")
    assert done.returncode == 0, f"python scripts/claims_table.py renews it\n{done.stdout}"


def test_studies_without_results_are_listed_as_not_run():
    text = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    _, section = text.split("\n## Not run\n")
    listed = {name for name in re.findall(r"`([\w-]+)`", section) if name in STUDIES}
    kept = {folder.parent.name for folder in (ROOT / "results").glob("*/study.json")}
    built = {name for name, shipped in STUDIES.items() if "cpu" in shipped.scales}
    assert listed == {name for name in built if f"{name}-cpu" not in kept}


def test_hours_of_the_studies_of_a_gpu_hour_are_those_of_the_plans():
    plans = (ROOT / "docs/reference/plans.md").read_text(encoding="utf-8")
    table = plans.partition("<!-- studies: begin -->")[2].partition("<!-- studies: end -->")[0]
    hours = [float(cell) for cell in re.findall(r"\| ([\d.]+) \|$", table, re.M)]
    guide = (ROOT / "docs/guides/reproduce-the-paper.md").read_text(encoding="utf-8")
    assert len(hours) > 30
    assert f"`gpu-hour` ({min(hours):.1f} to {max(hours):.1f} hours of" in guide


def test_requirements_name_tests_that_exist():
    page = (ROOT / "docs/reference/requirements.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", page)
    assert len(re.findall(r"^\| \d+ \|", page, re.M)) == 25 and len(named) >= 40
    for file, test in named:
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert f"def {test or 'test_'}" in text, f"{file}::{test}"

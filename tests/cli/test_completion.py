# SPDX-License-Identifier: Apache-2.0
"""Completion scripts; bash's is run, those of other shells are checked where these exist."""

import re
import shutil
import subprocess
import sys

import pytest

from pippin.cli.completion import completion_words
from pippin.cli.completion_scripts import SCRIPTS
from pippin.cli.main import VERBS, main
from pippin.cli.option_table import option_table
from pippin.cli.train import TrainCommand
from pippin.recipes.table import RECIPES, get_recipe
from pippin.studies.table import STUDIES


@pytest.fixture(scope="module")
def words():
    return completion_words()


def completed(script, *line):
    """Candidates of bash for the last word of a line."""
    code = (
        f"{script}\nCOMP_WORDS=({' '.join(map(repr, line))})\n"
        f"COMP_CWORD={len(line) - 1}\n_pippin\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split()


def test_bash_completes_verbs_recipes_and_options(words):
    script = SCRIPTS["bash"](words)
    assert set(completed(script, "pippin", "")) == {*VERBS, "--help", "--version"}
    assert completed(script, "pippin", "tra") == ["train"]
    assert completed(script, "pippin", "train", "") == list(RECIPES)
    assert completed(script, "pippin", "data", "prepare", "") == list(RECIPES)
    assert completed(script, "pippin", "data", "pre") == ["prepare"]
    assert completed(script, "pippin", "study", "run", "") == list(STUDIES)
    assert "--train.images" in completed(script, "pippin", "train", "x", "--train.i")
    assert "--unused" in completed(script, "pippin", "cache", "clear", "--u")
    assert completed(script, "pippin", "sample", "runs") == []  # bash then offers files


@pytest.mark.parametrize("name", ["openmoji/unet-entangled", "folder/mmdit-disentangled-text"])
def test_every_option_of_a_recipe_is_known(name, words):
    table = option_table(TrainCommand, TrainCommand(recipe=get_recipe(name)))
    assert {f"--{name}" for name in table} <= set(words.options["train"])


def test_words_need_no_quotes(words):
    tables = words.second, words.third, words.options
    plain = [word for table in tables for names in table.values() for word in names]
    assert all(re.fullmatch(r"[\w./+-]+", word) for word in [*words.verbs, *plain])
    assert not any(re.search(r'["$`\\]', text) for text in words.verbs.values())


@pytest.mark.parametrize("shell", [*SCRIPTS])
def test_scripts_are_valid(shell, words, tmp_path):
    script = SCRIPTS[shell](words)
    assert all(name in script for name in (*VERBS, *RECIPES, "--train.images"))
    if shutil.which(shell):
        path = tmp_path / "script"
        path.write_text(f"{script}\n", encoding="utf-8")
        subprocess.run([shell, "-n", str(path)], check=True)


def test_the_script_is_printed_without_importing_torch():
    code = (
        "import sys; from pippin.cli.main import main\n"
        "code = main(['completion', 'bash']); sys.exit(code or 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("complete -o default -F _pippin pippin")


def test_an_unknown_shell_is_refused(capsys):
    assert main(["completion", "bsh"]) == 2
    assert "near it are bash" in capsys.readouterr().err

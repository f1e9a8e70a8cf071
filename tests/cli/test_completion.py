# SPDX-License-Identifier: Apache-2.0
"""Completion scripts, run in each shell that this machine has; bash is required."""

import re
import shutil
import subprocess
import sys

import pytest

from pippin.cli.completion import SCRIPTS, completion_words
from pippin.cli.main import VERBS, main
from pippin.cli.parsing.option_table import option_table
from pippin.cli.train import TrainCommand
from pippin.recipes.table import RECIPES, get_recipe
from pippin.studies.shipped.table import STUDIES


@pytest.fixture(scope="module")
def words():
    return completion_words()


def run_shell(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout


def complete_bash(script, *line):
    """Candidates of bash for the last word of a line."""
    code = (
        f"{script}\nCOMP_WORDS=({' '.join(map(repr, line))})\n"
        f"COMP_CWORD={len(line) - 1}\n_pippin\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    return run_shell("bash", "-c", code).split()


def complete_zsh(script, *line):
    """Candidates of zsh; functions stand for the builtins that need its line editor."""
    quoted = " ".join(map(repr, line))
    code = (
        "compdef() { :; }; _files() { :; }\n"
        "compadd() { shift; print -rl -- ${(M)@:#${words[CURRENT]}*}; }\n"
        f"{script}\nwords=({quoted}); CURRENT={len(line)}; _pippin"
    )
    return run_shell("zsh", "-f", "-c", code).split()


def complete_fish(script, *line):
    """Candidates of fish, without their descriptions."""
    code = f'{script}\ncomplete -C "{" ".join(line)}"'
    return [text.partition("\t")[0] for text in run_shell("fish", "-N", "-c", code).splitlines()]


COMPLETE = {"bash": complete_bash, "zsh": complete_zsh, "fish": complete_fish}


@pytest.mark.parametrize("shell", [*SCRIPTS])
def test_a_shell_completes_verbs_recipes_and_options(shell, words, tmp_path, monkeypatch):
    if shell != "bash" and not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    monkeypatch.chdir(tmp_path)  # an empty folder: fish offers files beside the words
    monkeypatch.setenv("HOME", str(tmp_path))
    script = SCRIPTS[shell](words)

    def completed(*line):
        return sorted(COMPLETE[shell](script, "pippin", *line))

    assert set(VERBS) <= set(completed("")) <= {*VERBS, "--help", "--version"}
    assert completed("--") == ["--help", "--version"]
    assert completed("tra") == ["train"]
    assert completed("train", "") == sorted(RECIPES)
    assert completed("data", "prepare", "") == sorted(RECIPES)
    assert completed("data", "pre") == ["prepare"]
    assert completed("study", "run", "") == sorted(STUDIES)
    assert "--train.images" in completed("train", "x", "--train.i")
    assert "--unused" in completed("cache", "clear", "--u")
    assert completed("sample", "runs") == []  # the shell then offers files


@pytest.mark.parametrize("name", ["openmoji/unet-entangled", "folder/mmdit-disentangled-text"])
def test_every_option_of_a_recipe_is_known(name, words):
    table = option_table(TrainCommand, TrainCommand(recipe=get_recipe(name)))
    assert {f"--{name}" for name in table} <= set(words.options["train"])


@pytest.mark.parametrize("verb", ["autoencoder", "evaluate"])
@pytest.mark.parametrize("option", ["data.path", "data.images", "data.art"])
def test_options_of_every_kind_of_images_are_known(verb, option, words):
    assert f"--{option}" in words.options[verb]


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

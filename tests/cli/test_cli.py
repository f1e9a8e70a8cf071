# SPDX-License-Identifier: Apache-2.0
"""Command line: help, listing and misuse."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pippin.cli.main import VERBS, main
from pippin.cli.parsing.options import parse, parse_seeds
from pippin.encoders.config import TextConfig
from pippin.recipes.table import RECIPES
from pippin.system.output import progress_hidden


def pippin(*arguments, **options):
    command = [sys.executable, "-m", "pippin.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_help_lists_the_verbs_and_imports_rich_alone():
    """So it is quick; what it imports does not depend on how busy the machine is."""
    before, after = (
        subprocess.run(
            [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"],
            capture_output=True, text=True, check=True,
        ).stdout
        for code in ("pass", "from pippin.cli.main import main; main(['--help'])")
    )  # fmt: skip
    assert all(verb in after for verb in VERBS)
    imported = {name.partition(".")[0] for name in after.splitlines()[-1].split()}
    own = {"pippin", "__main__", "__mp_main__", *sys.stdlib_module_names, *before.split()}
    assert imported - own <= {"rich"}


def test_a_crash_in_native_code_prints_its_traceback():
    code = "import os; from pippin.cli.main import main; main(['--version']); os.abort()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == -6
    assert "Fatal Python error: Aborted" in done.stderr
    assert 'File "<string>", line 1' in done.stderr


def test_names_that_a_terminal_lacks_cost_nothing(tmp_path):
    """In the locale C, and with ASCII output."""
    for number in range(4):
        place = tmp_path / "fot\u00f3s" / ("k\u00e4tze", "hund")[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20 + number)).save(place)
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    arguments = ["data", "check", "fot\u00f3s", "--sample", "0"]
    done = pippin(*arguments, cwd=tmp_path, env=os.environ | ascii_only)
    assert done.returncode == 0, done.stderr
    assert "fot\\xf3s: 4 images (class folders)" in done.stdout
    assert re.search(r"^k\\xe4tze +\d", done.stdout, re.M)  # text, not the bytes of its name


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    try:
        code = main([verb, "--help"])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 0
    assert "usage" in capsys.readouterr().out.lower()


@pytest.mark.parametrize("verb", ["train", "plan", "show", "bench"])
def test_recipes_are_listed_by_family_with_what_they_are(verb, capsys):
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    for name in RECIPES:
        (line,) = (line for line in shown.splitlines() if line.split()[:1] == [name])
        assert re.search(r" \d+ px, .* M images$", line), line
    for family in {name.partition("/")[0] for name in RECIPES}:
        assert f"\n{family}/...  " in shown


def test_settings_of_a_recipe_are_shown_without_importing_torch():
    code = (
        "import sys; from pippin.cli.main import main\n"
        "try: main(['train', 'openmoji/mmdit-entangled', '--help-all'])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "--conditioning.control.low-gate.kind" in done.stdout
    assert "--train.learning-rate" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zzz"], "unknown verb 'zzz'; `pippin --help` lists all"),
        (["trian"], "unknown verb 'trian'; near it are train"),
        (["train", "openmoji/none"], "no recipe 'openmoji/none'; near it are openmoji/"),
        (["train", "--config", "missing.json"], "missing.json"),
        (["train", "--config"], "needs the path"),
        (["sample", "missing"], "no run folder"),
        (["evaluate", "missing"], "does not exist"),
        (["report", "missing"], "missing"),
        (["study", "run", "none"], "no study 'none'"),
    ],
)
def test_misuse_names_what_was_given_and_what_is_allowed(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_setting_is_refused_with_a_suggestion(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "openmoji/mmdit-entangled", "--train.lerning-rate", "1"])
    assert stopped.value.code == 2
    assert "--train.learning-rate" in capsys.readouterr().err


def test_an_empty_folder_of_images_is_an_error(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_any_kinds_of_captions_can_be_weighted(capsys):
    default = TextConfig(captions={"style": 1.0})
    mixed = parse(TextConfig, "x", ["--captions", "name", "1", "caption_a", "0.5"], default)
    assert mixed.captions == {"name": 1.0, "caption_a": 0.5}
    assert parse(TextConfig, "x", [], default) == default
    for bad in (["name"], ["name", "x"], ["a", "1", "a", "2"], []):
        with pytest.raises(SystemExit):
            parse(TextConfig, "x", ["--captions", *bad], default)
        assert "give each name once, with its weight" in " ".join(capsys.readouterr().err.split())


def test_seeds():
    assert parse_seeds("2:5") == [2, 3, 4]
    assert parse_seeds("7") == [7]
    assert parse_seeds("9,1") == [9, 1]
    for many in ("0:1" + "0" * 30, "0:10000001", "1" + "0" * 400, f"{2**53}:{2**53 + 2}"):
        with pytest.raises(ValueError, match="at most 10000000 seeds are allowed") as caught:
            parse_seeds(many)
        assert len(str(caught.value)) < 300
    for bad in ("5:5", "", "a", "3:1", "-1"):
        with pytest.raises(ValueError, match="0:64"):
            parse_seeds(bad)


def test_quiet_hides_progress_bars_and_nothing_else(monkeypatch):
    import pippin.cli.show

    calls = []
    script = "from pippin.system.output import progress_hidden; print(progress_hidden())"

    def show(argv):
        worker = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        calls.append((argv, progress_hidden(), worker.stdout))
        return 0

    monkeypatch.setattr(pippin.cli.show, "main", show)
    assert main(["show", "x", "--quiet", "--json"]) == 0
    assert main(["show", "x"]) == 0
    assert calls == [(["x", "--json"], True, "True\n"), (["x"], False, "False\n")]


def test_quiet_and_verbose_exclude_each_other(capsys):
    assert main(["show", "x", "--quiet", "--verbose"]) == 2
    assert "--quiet and --verbose exclude each other" in capsys.readouterr().err


def test_one_module_shows_all_progress():
    """So that --quiet hides it, and a log file gets lines instead of bars."""
    source = Path(__file__).parents[2] / "src" / "pippin"
    paths = source.rglob("*.py")
    bars = [path.name for path in paths if "rich.progress" in path.read_text(encoding="utf-8")]
    assert bars == ["progress_bar.py"]

# SPDX-License-Identifier: Apache-2.0
import ast
import io
from pathlib import Path

import pytest
from rich.console import Console

import pippin
from pippin.system.text import print_above_progress, print_text, printable

ROOT = Path(pippin.__file__).parent
HOSTILE = "a\x1b]0;title\x07b\x9b31mc\u202ed\u2028e\udc80\r"


def test_what_would_act_on_a_terminal_is_shown_instead():
    assert printable(HOSTILE) == r"a\x1b]0;title\x07b\x9b31mc\u202ed\u2028e\udc80\r"


@pytest.mark.parametrize("text", ["two\nlines\tand a tab", "é ü 猫", "👩‍🚀 🏳️‍🌈", "a\u00a0b"])
def test_ordinary_text_stays(text):
    assert printable(text) == text


def test_say_prints_what_any_stream_can_hold(capsysbinary):
    print_text(HOSTILE)
    print_text(HOSTILE, error=True)
    assert [part.decode() for part in capsysbinary.readouterr()] == 2 * [printable(HOSTILE) + "\n"]


def test_a_note_takes_brackets_for_text():
    file = io.StringIO()
    print_above_progress(
        Console(file=file, width=200), "runs/p[/q][red]\x1b[31m", label="skipped:"
    )
    assert file.getvalue() == "skipped: runs/p[/q][red]\\x1b[31m\n"


def _is_print(call: ast.Call) -> bool:
    """Whether a call prints text that may contain foreign parts."""
    if isinstance(call.func, ast.Name):
        return call.func.id == "print"
    is_method = isinstance(call.func, ast.Attribute) and call.func.attr == "print"
    return is_method and any(isinstance(one, ast.JoinedStr | ast.Constant) for one in call.args)


def test_everything_is_printed_by_say_and_note():
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        name = path.relative_to(ROOT).as_posix()
        found += [f"{name} line {one.lineno}" for one in calls if _is_print(one)]
    assert [one for one in found if not one.startswith("system/text.py")] == []

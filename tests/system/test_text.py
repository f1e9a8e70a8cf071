# SPDX-License-Identifier: Apache-2.0
"""Text from users: encodings, line ends, arguments, and unprintable characters."""

import codecs
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pippin.system.text import argument_text, decode_text, read_entries

TEXT = "blue book\ncaf\u00e9\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_what_a_mark_names_is_read_as_that_and_the_mark_is_no_text(encoding: str) -> None:
    assert decode_text(TEXT.encode(encoding)) == TEXT


def test_both_orders_of_bytes_are_read() -> None:
    for mark, encoding in (
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ):
        assert decode_text(mark + TEXT.encode(encoding)) == TEXT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"red\ncaf\xe9\n", r"^not UTF-8 text \(line 2, byte 7: b'\\xe9'\); save it as UTF-8$"),
        (b"\x93red\x94", r"not UTF-8 text \(line 1, byte 0"),
        (TEXT.encode("utf-16-le"), r"not UTF-8 text .*UTF-16 without a byte order mark"),
        (codecs.BOM_UTF16_LE + b"abc", r"not UTF-16 text"),
        (b"red\0circle", "zero bytes"),
    ],
)
def test_everything_else_is_refused_with_the_place(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_text(content)


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_only_line_ends_end_an_entry(tmp_path: Path, sign: str) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(f"blue{sign}book\r\n\n  \nred circle ".encode())
    assert read_entries(path) == [f"blue{sign}book", "red circle"]


def test_marks_inside_files_that_were_joined_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffblue book\n\ufeffred circle\n\ufeff\n".encode())
    assert read_entries(path) == ["blue book", "red circle"]


def test_a_file_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"prompts\.txt is not UTF-8 text"):
        read_entries(path)


def test_an_argument_must_be_text() -> None:
    assert argument_text("caf\u00e9") == "caf\u00e9"
    with pytest.raises(ValueError, match=r"'caf\\\\udce9' on the command line is not UTF-8 text"):
        argument_text("caf\udce9")


@pytest.mark.parametrize("ending", ["", ":strict", ":surrogateescape"])
def test_a_name_that_a_terminal_lacks_is_printed_as_an_escape(ending: str) -> None:
    code = (
        "from pippin.system.text import show_any_text; show_any_text()\n"
        "import sys; print('caf\\xe9 \\udcc3'); print('caf\\xe9', file=sys.stderr)"
    )
    environment = os.environ | {"PYTHONIOENCODING": f"ascii{ending}"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, env=environment
    )
    assert (done.returncode, done.stdout) == (0, b"caf\\xe9 \\udcc3\n"), done.stderr
    assert done.stderr == b"caf\\xe9\n"

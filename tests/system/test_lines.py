# SPDX-License-Identifier: Apache-2.0
"""Files of JSON lines: nothing that can be read is lost, nothing that cannot is silent."""

import json
from pathlib import Path

import pytest

from pippin.system.lines import append_lines, keep_lines, read_lines, write_lines


def test_lines_come_back_with_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    append_lines(path, [{"a": 1}, {"b": "line\u2028separator"}])
    append_lines(path, [{"c": None}])
    assert read_lines(path).objects == {
        1: {"a": 1},
        2: {"b": "line\u2028separator"},
        3: {"c": None},
    }
    assert read_lines(path).problems == {}


@pytest.mark.parametrize("bad", [b'{"a": 1', b"[1]", b'{"a": NaN}', b"\xff\xfe", b"7"])
def test_a_line_that_cannot_be_read_costs_no_other(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 0}\n' + bad + b'\n\n{"a": 2}\n')
    found = read_lines(path)
    assert found.objects == {1: {"a": 0}, 4: {"a": 2}}
    assert list(found.problems) == [2]


def test_a_missing_file_is_an_empty_one(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none") == ({}, {})
    keep_lines(tmp_path / "none", lambda line: True)
    assert not list(tmp_path.iterdir())


def test_only_wanted_lines_stay(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_lines(path, [{"images": n} for n in (1, 2, 3)])
    with path.open("a") as file:
        file.write('{"images": 4')  # a kill in the middle of a line
    keep_lines(path, lambda line: line["images"] <= 2)
    assert [json.loads(x) for x in path.read_text().splitlines()] == [{"images": 1}, {"images": 2}]


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_lines(tmp_path / "x", [{"a": float("nan")}])
    assert not (tmp_path / "x").exists()

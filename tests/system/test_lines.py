# SPDX-License-Identifier: Apache-2.0
"""JSON Lines files: readable lines are kept, unreadable ones are reported."""

import os
from pathlib import Path

import pytest

from pippin.system.lines import append_lines, has_no_lines, keep_lines, read_lines, write_lines


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
    result = read_lines(path)
    assert result.objects == {1: {"a": 0}, 4: {"a": 2}}
    assert list(result.problems) == [2]


def test_a_missing_file_is_an_empty_one(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none") == ({}, {}, ())
    keep_lines(tmp_path / "none", lambda line: True)
    assert not list(tmp_path.iterdir())


def test_only_selected_lines_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_lines(path, [{"images": n} for n in (1, 2, 3)])
    with path.open("a") as file:
        file.write('{"images": 4')  # a kill in the middle of a line
    keep_lines(path, lambda line: line["images"] <= 2)
    assert [*read_lines(path).objects.values()] == [{"images": 1}, {"images": 2}]
    assert not read_lines(path).problems


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_lines(tmp_path / "x", [{"a": float("nan")}])
    assert not (tmp_path / "x").exists()


def written(path: Path, count: int = 4) -> list[bytes]:
    """Write a file of lines that belong together."""
    write_lines(path, [{"value": 0.5 + n, "line of": [n]} for n in range(count)])
    return path.read_bytes().splitlines(keepends=True)


def test_every_changed_byte_of_a_line_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    lines = written(path)
    expected = read_lines(path).objects
    for position in range(len(lines[1]) - 1):
        changed = bytearray(lines[1])
        changed[position] ^= 1
        path.write_bytes(b"".join([lines[0], changed, *lines[2:]]))
        result = read_lines(path)
        values = result.objects.pop(2, None)
        if values is None:
            assert [*result.problems] == [2] and result.gaps[0].missing == 0
        else:  # the byte belongs to the checksum's name: no checksum, and nothing else changed
            assert expected[2].items() <= values.items()
        assert {2: expected[2], **result.objects} == expected


def test_a_changed_digit_is_named_and_a_line_that_was_edited_on_purpose_is_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.jsonl"
    append_lines(path, [{"value": 0.5}])
    path.write_text(path.read_text().replace("0.5", "0.6"))
    assert "does not match its checksum (content_sha256)" in read_lines(path).problems[1]
    assert "remove its entry content_sha256" in read_lines(path).problems[1]
    path.write_text('{"value": 0.6}\n')
    assert read_lines(path) == ({1: {"value": 0.6}}, {}, ())


@pytest.mark.parametrize("gone", [[0], [1], [3], [0, 1], [2, 3], [1, 2]])
def test_missing_lines_are_noticed(gone: list[int], tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    lines = written(path)
    append_lines(path, [{"other": 1}, {"other": 2}])
    after = path.read_bytes()[sum(map(len, lines)) :]
    assert read_lines(path).gaps == ()
    left = [line for number, line in enumerate(lines) if number not in gone]
    path.write_bytes(b"".join(left) + after)
    (gap,) = read_lines(path).gaps
    assert (gap.numbers, gap.missing) == (tuple(range(1, 1 + len(left))), len(gone))
    assert f"{len(gone)} of 4 lines that were written together" in str(gap)


def test_a_damaged_line_is_not_a_missing_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    lines = written(path)
    path.write_bytes(b"".join([lines[0], lines[1].replace(b"1.5", b"1.6"), *lines[2:]]))
    result = read_lines(path)
    (gap,) = result.gaps
    assert [*result.problems] == [2] and gap.missing == 0 and gap.damaged == (2,)


def test_a_damaged_line_stays_when_others_are_removed(tmp_path: Path) -> None:
    """In a resumed log a line with a wrong checksum is reported again, and not lost."""
    path = tmp_path / "log.jsonl"
    append_lines(path, [{"images": 1, "loss": 0.5}])
    append_lines(path, [{"images": 2, "loss": 0.25}])
    path.write_text(path.read_text().replace("0.5", "0.7") + '{"images": 3')
    keep_lines(path, lambda line: line["images"] <= 1)
    result = read_lines(path)
    assert result.objects == {} and [*result.problems] == [1] and "0.7" in path.read_text()


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\n"])
def test_an_emptied_file_is_detected(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    assert not has_no_lines(path)
    path.write_bytes(content)
    assert has_no_lines(path)
    append_lines(path, [{"a": 1}])
    assert not has_no_lines(path)


def test_a_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    os.mkfifo(path)
    for act in (read_lines, has_no_lines, lambda path: keep_lines(path, lambda line: True)):
        with pytest.raises(OSError, match=r"x\.jsonl is a FIFO, not a file"):
            act(path)

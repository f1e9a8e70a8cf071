# SPDX-License-Identifier: Apache-2.0
"""The record survives what happens to files."""

import json
from dataclasses import replace

import pytest
from edited_json import as_earlier

from pippin.config import fingerprint
from pippin.studies.results import Outcome, Row, append, read, repair
from pippin.system.lines import append_lines

PROTOCOL = {"train.images": 3, "note": "line\u2028break", "measure.name": "kid"}
ROW = Row(
    study="s",
    arm="a",
    seed=0,
    metric="kid",
    value=0.5,
    low=0.4,
    high=None,
    interval_over="samples",
    n=10,
    unit="",
    better="lower",
    protocol=PROTOCOL,
    fingerprint=fingerprint(PROTOCOL),
    comparable="c",
)
OUTCOME = Outcome(
    arm="a", seed=0, status="finished", fingerprint="f", wall_seconds=1.0, written="now"
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "results.jsonl"
    append(path, [ROW, OUTCOME])
    return path


def test_what_is_appended_is_read(path):
    append(path, [OUTCOME])
    results = read(path)
    assert results.rows == (ROW,)
    assert results.outcomes == (OUTCOME, OUTCOME)
    assert results.problems == ()
    assert results.done("a", 0, "f")
    assert not results.done("a", 0, "another recipe")


def test_a_missing_file_is_an_empty_one(tmp_path):
    assert read(tmp_path / "none.jsonl").rows == ()
    assert repair(tmp_path / "none.jsonl") is None


def test_every_torn_tail_is_kept_aside(path):
    """Cut the file at many places of what was written last: the run's other lines go with it."""
    start = path.stat().st_size
    append(path, [replace(ROW, arm="b"), replace(OUTCOME, arm="b")])
    whole = path.read_bytes()
    ends = [place + 1 for place in range(start, len(whole) - 1) if whole[place] == 10]
    for cut in (*range(start + 1, len(whole) - 1, 31), *ends, len(whole) - 2):
        path.write_bytes(whole[:cut])
        aside = path.with_name("results.jsonl.torn")
        aside.unlink(missing_ok=True)
        note = repair(path)
        assert note is not None and "torn" in note
        assert path.read_bytes() == whole[:start]
        assert aside.read_bytes() == whole[start:cut].removesuffix(b"\n") + b"\n"
        assert repair(path) is None
    assert read(path).outcomes == (OUTCOME,)


def test_a_whole_last_line_without_its_end_is_kept(path):
    path.write_bytes(path.read_bytes()[:-1])
    assert "complete" in str(repair(path))
    append(path, [OUTCOME])
    assert len(read(path).outcomes) == 2


def test_reading_changes_nothing_and_names_bad_lines(path):
    content = (
        b'not json\n{"kind": "else"}\n{"kind": "measure"}\n[]\n' + path.read_bytes() + b'{"ki'
    )
    path.write_bytes(content)
    results = read(path)
    assert results.rows == (ROW,)
    assert [problem.split()[2] for problem in results.problems] == ["1", "2", "3", "4", "8"]
    assert path.read_bytes() == content


def test_a_value_of_a_wrong_kind_is_a_named_problem(path):
    as_earlier(path)
    path.write_text(path.read_text().replace("0.5", '"<b>"'))
    (problem,) = read(path).problems
    assert "line 2" in problem and "expected float" in problem


def test_settings_that_rows_share_stand_once(path):
    protocol = ROW.protocol | {"measure.samples": 10}
    known = {"protocol": protocol, "fingerprint": fingerprint(protocol)}
    others = [Row.from_dict(ROW.to_dict() | known | {"metric": name}) for name in "xy"]
    before = path.stat().st_size
    append(path, [*others, OUTCOME])
    assert read(path).rows == (ROW, *others)
    assert path.read_text()[before:].count("train.images") == 1


def test_rows_with_all_their_settings_are_read(tmp_path):
    """As earlier versions wrote them."""
    old = tmp_path / "results.jsonl"
    append_lines(old, [{"kind": "measure"} | ROW.to_dict()])
    assert read(old).rows == (ROW,)


def test_rows_whose_settings_are_lost_are_a_named_problem(path):
    as_earlier(path)
    lines = path.read_text().split("\n")
    path.write_text("\n".join(line for line in lines if '"kind": "settings"' not in line))
    results = read(path)
    assert results.rows == () and results.outcomes == (OUTCOME,)
    assert (
        "line 1" in results.problems[0] and "on no readable line before it" in results.problems[0]
    )


def test_not_finite_numbers_never_reach_the_file(path):
    with pytest.raises(ValueError, match="JSON compliant"):
        append(path, [Row.from_dict(ROW.to_dict() | {"value": float("nan")})])
    path.write_text(path.read_text().replace("0.5", "NaN"))
    assert "NaN is not a JSON number" in read(path).problems[0]


def test_a_later_measure_replaces_an_earlier_one(path):
    later = Row.from_dict(ROW.to_dict() | {"value": 0.7})
    append(path, [later])
    assert read(path).rows == (later,)


@pytest.mark.parametrize(
    ("kind", "old", "new", "message"),
    [
        ("settings", '"train.images": 3', '"train.images": 9', 'its "of" differs from what was'),
        ("settings", '"of"', '"off"', 'must have a "name" and an object "of"'),
        ("measure", '"measure.name": "kid"', '"measure.name": "fid"', "its protocol differs from"),
        (
            "measure",
            '"measure.name": "kid"',
            '"a": 1',
            "its protocol differs from what was written",
        ),
    ],
)
def test_a_protocol_that_was_changed_counts_no_more(path, kind, old, new, message):
    as_earlier(path)
    lines = path.read_text().split("\n")
    changed = [line.replace(old, new) if f'"kind": "{kind}"' in line else line for line in lines]
    assert changed != lines
    path.write_text("\n".join(changed))
    results = read(path)
    assert results.rows == () and results.outcomes == (OUTCOME,)
    assert message in results.problems[0]


def test_a_measure_of_the_run_trained_anew_replaces_the_earlier_one(path):
    """Which weights were measured is recorded, and no second measure beside the first."""
    rows = []
    for digest in ("a", "b"):
        content = PROTOCOL | {"measure.model.sha256": digest}
        rows.append(replace(ROW, protocol=content, fingerprint=fingerprint(content)))
    append(path, [rows[0]])
    assert read(path).rows == (rows[0],)
    append(path, [rows[1]])
    assert read(path).rows == (rows[1],)
    assert json.loads(path.read_text().split("\n")[-2])["protocol"]["measure.model.sha256"] == "b"


def test_a_changed_digit_counts_no_more_and_its_run_is_run_again(path):
    append(path, [replace(ROW, arm="b"), replace(OUTCOME, arm="b")])
    before = path.read_bytes()
    path.write_bytes(before.replace(b'"value": 0.5', b'"value": 0.4', 1))
    results = read(path)
    assert [row.arm for row in results.rows] == ["b"]
    assert not results.done("a", 0, "f") and results.done("b", 0, "f")
    (problem,) = results.problems
    assert problem.startswith("results.jsonl line 2 does not count: its content does not match")
    assert "moved to results.jsonl.torn" in str(repair(path))
    assert b'"value": 0.4' in path.with_name("results.jsonl.torn").read_bytes()
    append(path, [ROW, OUTCOME])
    healed = read(path)
    assert healed.problems == () and {row.arm for row in healed.rows} == {"a", "b"}
    assert healed.done("a", 0, "f")


@pytest.mark.parametrize("gone", range(3))
def test_a_run_that_lost_a_line_is_run_again(path, gone):
    append(path, [replace(ROW, arm="b"), replace(OUTCOME, arm="b")])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:gone] + lines[gone + 1 :]))
    results = read(path)
    assert not results.done("a", 0, "f") and results.done("b", 0, "f")
    assert any("1 of 3 lines that were written together is missing" in x for x in results.problems)
    repair(path)
    assert read(path).problems == () and read(path).done("b", 0, "f")


def test_an_emptied_file_is_said(path):
    path.write_bytes(b"")
    (problem,) = read(path).problems
    assert "results.jsonl is empty" in problem and "run the command" in problem


def test_lines_of_an_earlier_version_that_cannot_be_read_stay_and_are_named(path):
    as_earlier(path)
    path.write_text(path.read_text().replace('{"format": 1, "kind": "measure"', "{", 1))
    before = path.read_bytes()
    assert repair(path) is None and path.read_bytes() == before
    assert len(read(path).problems) == 1

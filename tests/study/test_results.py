# SPDX-License-Identifier: Apache-2.0
"""The record survives what happens to files."""

import json
from dataclasses import replace

import pytest

from pippin.config import fingerprint
from pippin.study.results import Outcome, Row, append, read, repair
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
    """Cut the file at many places of its last line."""
    whole = path.read_bytes()
    start = whole[:-1].rfind(b"\n") + 1
    for cut in (*range(start + 1, len(whole) - 1, 9), len(whole) - 2):
        path.write_bytes(whole[:cut])
        aside = path.with_name("results.jsonl.torn")
        aside.unlink(missing_ok=True)
        note = repair(path)
        assert note is not None and "torn" in note
        assert path.read_bytes() == whole[:start]
        assert aside.read_bytes() == whole[start:cut] + b"\n"
        assert repair(path) is None
    append(path, [OUTCOME])
    assert read(path).outcomes == (OUTCOME,)


def test_a_whole_last_line_without_its_end_is_kept(path):
    path.write_bytes(path.read_bytes()[:-1])
    assert "whole" in str(repair(path))
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
    lines = path.read_text().split("\n")
    path.write_text("\n".join(line for line in lines if '"kind": "settings"' not in line))
    results = read(path)
    assert results.rows == () and results.outcomes == (OUTCOME,)
    assert "line 1" in results.problems[0] and "on no line before it" in results.problems[0]


def test_not_finite_numbers_never_reach_the_file(path):
    with pytest.raises(ValueError, match="JSON compliant"):
        append(path, [Row.from_dict(ROW.to_dict() | {"value": float("nan")})])
    path.write_text(path.read_text().replace("0.5", "NaN"))
    assert "NaN is no JSON number" in read(path).problems[0]


def test_a_later_measure_replaces_an_earlier_one(path):
    later = Row.from_dict(ROW.to_dict() | {"value": 0.7})
    append(path, [later])
    assert read(path).rows == (later,)


@pytest.mark.parametrize(
    ("kind", "old", "new", "message"),
    [
        ("settings", '"train.images": 3', '"train.images": 9', 'its "of" differs from what was'),
        ("settings", '"of"', '"off"', 'must have a "name" and what it stands "of"'),
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

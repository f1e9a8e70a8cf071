# SPDX-License-Identifier: Apache-2.0
"""Whenever the power goes, results that were recorded are there, and a torn line is named."""

import pytest
from power_cut import each_state, final_states, recorded

from pippin.config import fingerprint
from pippin.evaluation.runs.recording import with_fingerprints, write_results
from pippin.studies.results import Outcome, Row, append, read, repair
from pippin.studies.study_folder import declare
from pippin.system.lines import append_lines, read_lines


def run_of(arm, measure):
    """The lines of one run: a measure and how it ended."""
    content = {"arm": arm, "measure.name": "drift"}
    one = measure("drift", 0.5)
    row = Row(
        study="s",
        arm=arm,
        seed=0,
        metric=one.name,
        value=one.value,
        low=one.low,
        high=one.high,
        interval_over=one.interval_over,
        n=one.n,
        unit=one.unit,
        better=one.better,
        protocol=content,
        fingerprint=fingerprint(content),
        comparable="c",
    )
    how = {"status": "finished", "fingerprint": "f", "wall_seconds": 1.0, "written": "now"}
    return [row, Outcome(arm=arm, seed=0, **how)]


def arms(found):
    return [one.arm for one in found.outcomes]


def test_what_was_recorded_stays_and_the_next_record_joins_it(measure, tmp_path):
    root = tmp_path / "disk"
    root.mkdir()
    append(root / "results.jsonl", run_of("first", measure))
    with recorded(root) as disk:
        append(root / "results.jsonl", run_of("second", measure))
    seen = set()
    for place in each_state(disk, tmp_path / "states"):
        path = place / "results.jsonl"
        before = read(path)
        seen.add((*arms(before), bool(before.problems)))
        assert arms(before)[0] == "first" and len(before.rows) >= len(before.outcomes)
        repair(path)
        append(path, run_of("third", measure))
        assert arms(read(path)) == [*arms(before), "third"] and not read(path).problems
    assert seen == {("first", False), ("first", True), ("first", "second", False)}
    for place in final_states(disk, tmp_path / "end"):
        assert arms(read(place / "results.jsonl")) == ["first", "second"]


def test_the_first_record_has_its_name_on_the_disk(measure, tmp_path):
    root = tmp_path / "disk"
    root.mkdir()
    with recorded(root) as disk:
        append(root / "results.jsonl", run_of("first", measure))
    for place in final_states(disk, tmp_path / "end"):
        assert arms(read(place / "results.jsonl")) == ["first"]


def test_a_torn_line_is_kept_aside_before_it_goes(measure, tmp_path):
    root = tmp_path / "disk"
    root.mkdir()
    append(root / "results.jsonl", run_of("first", measure))
    with (root / "results.jsonl").open("ab") as file:
        file.write(b'{"kind": "mea')
    with recorded(root) as disk:
        repair(root / "results.jsonl")
    for place in each_state(disk, tmp_path / "states"):
        kept = [place / "results.jsonl", place / "results.jsonl.torn"]
        text = "".join(path.read_text() for path in kept if path.exists())
        assert '{"kind": "mea' in text and arms(read(kept[0])) == ["first"]


def test_measures_of_a_run_are_the_old_or_the_new_ones(measure, tmp_path):
    root = tmp_path / "disk"
    root.mkdir()
    path = root / "results.jsonl"
    write_results(with_fingerprints([measure("drift", 0.1)], {"a": 1}), path)
    path.write_text(path.read_text() + '{"torn')
    with recorded(root) as disk:
        write_results(with_fingerprints([measure("drift", 0.2)], {"a": 1}), path)
    for place in each_state(disk, tmp_path / "states"):
        lines = read_lines(place / "results.jsonl").objects
        assert [one["value"] for one in lines.values()] in ([0.1], [0.2])
        texts = [one.read_text() for one in place.iterdir()]
        assert any('{"torn' in text for text in texts)
    write_results(with_fingerprints([measure("effect", 0.2)], {"a": 1}), path)
    assert (root / "results.jsonl.torn").read_text() == '{"torn\n'


def test_a_declaration_is_the_old_or_the_new_one(study, tmp_path):
    root = tmp_path / "disk"
    root.mkdir()
    with recorded(root) as disk:
        declare(study, root)
    for place in each_state(disk, tmp_path / "states"):
        declare(study, place)
    for place in final_states(disk, tmp_path / "end"):
        assert (place / "study.json").read_bytes() == (root / "study.json").read_bytes()


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_line_without_an_end_spoils_no_other(end, tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"a": 1}\n{"torn' + end)
    append_lines(path, [{"b": 2}])
    found = read_lines(path)
    assert [*found.objects.values()] == [{"a": 1}, {"b": 2}] and [*found.problems] == [2]

# SPDX-License-Identifier: Apache-2.0
"""Arms that continue from trained weights say so."""

from dataclasses import replace
from pathlib import Path

from pippin.reports.report_source import Source
from pippin.reports.settings import BEFORE, starting_point
from pippin.studies.results import Results, Row
from pippin.studies.shipped.table import get_study


def source(study, before=None, **starts):
    """The source of a report: arms with ``init.run``, and one measured row for each arm."""
    declaration = study.declaration()
    arms = {
        arm: recipe | {"init": {"run": starts.get(arm), "weights": "ema"}}
        for arm, recipe in declaration.arms.items()
    }
    rows = tuple(row(arm, before) for arm in arms if before)
    return Source(
        folder=Path("study"),
        declaration=replace(declaration, arms=arms),
        results=Results(rows=rows),
        runs=(),
        problems=(),
    )


def row(arm, before):
    """A number measured of an arm that starts from trained weights."""
    return Row(
        study="demo",
        arm=arm,
        seed=0,
        metric="loss",
        value=1.0,
        low=None,
        high=None,
        interval_over="none",
        n=1,
        unit="",
        better="lower",
        protocol={BEFORE: before},
        fingerprint="",
        comparable="",
    )


def test_fresh_arms_say_nothing(study):
    assert starting_point(source(study)) == ""


def test_own_checkpoints(study):
    found = source(study, 1_600_000, entangled="pippin/a", disentangled="pippin/b")
    assert starting_point(found) == (
        "each arm continues from its own checkpoint: "
        "entangled: pippin/a, 1,600,000 images before; "
        "disentangled: pippin/b, 1,600,000 images before; 10,000 images here"
    )


def test_one_checkpoint_for_all(study):
    found = starting_point(source(study, entangled="pippin/a", disentangled="pippin/a"))
    assert found == "all arms continue from pippin/a; 10,000 images here"


def test_only_one_arm_continues(study):
    """Not hidden: this would be no fair comparison."""
    found = starting_point(source(study, disentangled="pippin/b"))
    assert "entangled: from initial weights; disentangled: pippin/b" in found


def test_before_anything_is_measured_no_count_is_claimed(study):
    assert "before" not in starting_point(source(study, entangled="pippin/a"))


def test_totals_of_own_starts_are_counted_in_image_tokens():
    study = get_study("resolution", scale="cpu")
    found = starting_point(source_of(study.declaration()))
    assert found.endswith("; 1.92 million image tokens in every arm, starts included")
    short = replace(study.starts["low"], train=replace(study.starts["low"].train, images=40_000))
    uneven = replace(study, starts={"low": short}).declaration()
    told = starting_point(source_of(uneven)).rpartition(": ")[2]
    assert "resampled-rescaled 1.28" in told and "scratch-kept 1.92" in told


def test_a_start_that_is_not_declared_has_no_total(study):
    """One arm of a study, looked at alone, and a study of a version with other settings."""
    declared = get_study("resolution", scale="cpu").declaration()
    alone = starting_point(source_of(replace(declared, starts={})))
    assert "@low" in alone and "tokens" not in alone
    arms = {arm: one | {"extinct": 1} for arm, one in declared.arms.items()}
    assert "tokens" not in starting_point(source_of(replace(declared, arms=arms)))


def source_of(declaration):
    """A study before its first run."""
    return Source(
        folder=Path("study"), declaration=declaration, results=Results(), runs=(), problems=()
    )

# SPDX-License-Identifier: Apache-2.0
"""Arms that continue from trained weights say so."""

from dataclasses import replace
from pathlib import Path

from pippin.study.results import Results, Row
from pippin.study.source import Source
from pippin.study.start import BEFORE, starting_point


def source(study, before=None, **starts):
    """What a report reads: arms with ``init.run``, and one measured row for each arm."""
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

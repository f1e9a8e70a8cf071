# SPDX-License-Identifier: Apache-2.0
"""Figures of control profiles: one for each field of a study, one in all of a run."""

from types import SimpleNamespace
from unittest.mock import Mock

from pippin.evaluation.metric_registry import find_metric
from pippin.reports.figures.control_figures import control_profiles
from pippin.reports.report_source import Source


def source(arms, values, seeds=(0,)):
    rows = [
        SimpleNamespace(
            metric=f"control profile {field} at log-SNR {level:g}",
            arm=arm,
            seed=seed,
            subject="arm",
            value=value,
        )
        for (field, arm), curve in values.items()
        for seed in seeds
        for level, value in curve.items()
    ]
    found = Mock(spec=Source)
    found.declaration, found.results = SimpleNamespace(arms=arms), SimpleNamespace(rows=rows)
    return found


EARLY, LATE = {-2.0: 0.02, 0.0: 0.01, 2.0: 0.0}, {2.0: 0.03, -2.0: 0.0, 0.0: 0.01}


def test_a_study_has_one_figure_a_field_with_a_curve_an_arm():
    values = {("grain", "gated"): LATE, ("grain", "free"): EARLY, ("flip", "free"): EARLY}
    grain, flip = control_profiles(source(("free", "gated"), values, seeds=(0, 1)))
    assert grain.title == "Control profile (grain)" and "faint lines" in grain.caption
    assert [(key.arm, key.end) for key in grain.legend] == [
        ("free", "0.02 at -2"),
        ("gated", "0.03 at 2"),
    ]
    assert [key.end for key in flip.legend] == ["0.02 at -2", ""]
    assert grain.alt == (
        "Control profile (grain) against log-SNR: free is largest, 0.02 at -2; "
        "gated is largest, 0.03 at 2"
    )


def test_a_run_has_one_figure_with_a_curve_a_field():
    values = {("grain", "only"): LATE, ("original_size", "only"): EARLY}
    (figure,) = control_profiles(source(("only",), values))
    assert [key.arm for key in figure.legend] == ["grain", "original size"]
    assert figure.svg.startswith("<svg")


def test_without_profiles_there_is_no_figure():
    assert control_profiles(source(("free", "gated"), {})) == []


def test_the_metrics_have_words():
    assert "knowing the control" in find_metric("control profile grain centre").description
    assert find_metric("control profile grain at log-SNR -2").group == "control"
    assert not find_metric("control profile grain at log-SNR -2").leads

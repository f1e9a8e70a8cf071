# SPDX-License-Identifier: Apache-2.0
"""Declared metrics are measured, or missing ones are reported."""

from dataclasses import replace
from pathlib import Path

import pytest

from pippin.config import ConfigError
from pippin.evaluation.metric import OTHER
from pippin.evaluation.metric_registry import find_metric
from pippin.studies.execution import execute as own_execution
from pippin.studies.results import read
from pippin.studies.runner import refuse_unmeasured, run_study
from pippin.studies.shipped.table import STUDIES, get_study

RESULTS = Path(__file__).parents[2] / "results"


@pytest.mark.parametrize(
    ("declared", "near"),
    [
        ({"primary": "FIDD"}, "FID"),
        ({"primary": "KID", "companions": ("coverag",)}, "KID-efflite"),
    ],
)
def test_a_metric_that_no_run_measures_is_refused_before_any_work(study, tmp_path, declared, near):
    with pytest.raises(ConfigError, match=rf"no run measures .did you mean .*{near}.*\?"):
        run_study(replace(study, **declared), tmp_path / "study", own_execution, print)
    assert not (tmp_path / "study").exists()


def test_a_companion_is_checked_as_the_primary_is(study):
    odd = replace(study, primary="KID-efflite0", companions=("coverage", "beauty"))
    with pytest.raises(ConfigError, match="declares 'beauty', which no run measures"):
        refuse_unmeasured(odd, own_execution)


def test_shipped_studies_declare_what_is_measured():
    for name, shipped in STUDIES.items():
        for scale in shipped.scales:
            refuse_unmeasured(get_study(name, (), scale), own_execution)


@pytest.mark.parametrize(
    "folder", sorted(RESULTS.glob("*/results.jsonl")), ids=lambda p: p.parent.name
)
def test_whatever_was_measured_may_be_declared(folder):
    names = {row.metric for row in read(folder).rows}
    assert names and all(find_metric(name).kind is not OTHER for name in names)


@pytest.mark.parametrize(
    ("declared", "evaluation", "reason"),
    [
        ("drift grain", {"parts": ("quality",)}, "evaluation.parts lacks drift"),
        ("KID-dinov2", {}, "evaluation.features is efflite0"),
        ("FID", {}, "evaluation.features is efflite0"),
        ("FID at best scale", {}, "evaluation.features is efflite0"),
        ("coverage at best scale", {}, "evaluation.scales is not set"),
        ("matched drift grain", {"control_scales": (1.0,)}, "scaled_controls lacks grain"),
        ("effect grain at beta 2", {"control_scales": (1.0,)}, "control_scales lacks at beta 2"),
        ("drift original_size at 24", {}, "evaluation.size_curve lacks at 24"),
        ("eps-error at log-SNR 1", {}, "evaluation.loss_log_snrs lacks 1"),
        ("zero-shot coverage", {}, "only `pippin evaluate RUN --preset` measures it"),
    ],
)
def test_a_metric_that_the_evaluation_leaves_out_is_refused(study, declared, evaluation, reason):
    base = replace(study.base, evaluation=replace(study.base.evaluation, **evaluation))
    odd = replace(study, base=base, primary=declared, companions=())
    with pytest.raises(ConfigError, match=f"declares '{declared}'.*no run measures: .*{reason}"):
        refuse_unmeasured(odd, own_execution)


@pytest.mark.parametrize(
    ("declared", "evaluation"),
    [
        ("matched drift original_size", {"control_scales": (1.0,)}),
        ("drift original_size at 24", {"size_curve": (24,)}),
        ("eps-error at log-SNR -6", {}),
        ("KID-efflite0 at best scale", {"scales": (1.0, 2.0)}),
        ("KID-inception-ab12cd34", {"features": "inception", "inception": "weights.pth"}),
    ],
)
def test_a_metric_that_the_evaluation_measures_is_accepted(study, declared, evaluation):
    base = replace(study.base, evaluation=replace(study.base.evaluation, **evaluation))
    refuse_unmeasured(replace(study, base=base, primary=declared, companions=()), own_execution)


@pytest.mark.parametrize(
    ("misspelt", "near"),
    [
        ("matched drift orginal_size", "matched drift original_size"),
        ("drift grane", "drift grain"),
        ("accuracy al", "accuracy all"),
    ],
)
def test_a_misspelt_parameter_is_refused_with_near_names(study, misspelt, near):
    odd = replace(study, primary=misspelt, companions=())
    with pytest.raises(ConfigError, match=rf"did you mean .*{near}"):
        refuse_unmeasured(odd, own_execution)


def test_an_execution_of_ones_own_may_measure_what_it_likes(study, measure, tmp_path):
    said = []
    own = replace(study, seeds=(0,), primary="beauty", companions=("effect",))
    run_study(own, tmp_path, lambda recipe, folder: [measure("beauty", 1.0)], said.append)
    absent = [line for line in said if "measured no" in line]
    assert absent == [
        f"{arm}-seed0 measured no effect, which the study declares: see its evaluation"
        for arm in own.arms()
    ]

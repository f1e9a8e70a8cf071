# SPDX-License-Identifier: Apache-2.0
"""Declared metrics are measured, or missing ones are reported."""

from dataclasses import replace
from pathlib import Path

import pytest

from pippin.config import ConfigError
from pippin.run.execute import execute as own_execution
from pippin.studies.table import STUDIES, get_study
from pippin.study.declared_metrics import refuse_unmeasured
from pippin.study.glossary import names, term
from pippin.study.results import read
from pippin.study.runner import run_study

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
    odd = replace(study, primary="FID", companions=("coverage", "beauty"))
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
    assert {row.metric for row in read(folder).rows if not term(row.metric).text} == set()


def test_names_to_choose_from_have_words():
    assert all(term(name).text for name in names())


def test_an_execution_of_ones_own_may_measure_what_it_likes(study, measure, tmp_path):
    said = []
    own = replace(study, seeds=(0,), primary="beauty", companions=("effect",))
    run_study(own, tmp_path, lambda recipe, folder: [measure("beauty", 1.0)], said.append)
    absent = [line for line in said if "measured no" in line]
    assert absent == [
        f"{arm}-seed0 measured no effect, which the study declares: see its evaluation"
        for arm in own.arms()
    ]

# SPDX-License-Identifier: Apache-2.0
"""Table 1 as studies, and studies that begin on another data set."""

import pytest

from pippin.cli.main import main
from pippin.config import ConfigError, difference
from pippin.studies.shipped.architectures import DENOISERS
from pippin.studies.shipped.options import with_data_path
from pippin.studies.shipped.table import STUDIES, get_study

CLASSES, TEXT = ("table1", "table1-512"), ("table1-text", "table1-text-512")
TABLE = [(n, s) for n in (*CLASSES, *TEXT) for s in STUDIES[n].scales]


@pytest.mark.parametrize(("name", "scale"), TABLE)
def test_five_denoisers_stand_plain_and_disentangled_at_equal_budgets(name, scale):
    study = get_study(name, scale=scale)
    arms = study.arms()
    assert list(arms) == [f"{d}-{c}" for d in DENOISERS for c in ("plain", "disentangled")]
    assert len({arm.train.images for arm in arms.values()}) == 1
    for arm, recipe in arms.items():
        conditioning = recipe.conditioning
        gated = conditioning.control.low_gate.kind == "power-cosine"
        assert gated == arm.endswith("-disentangled")
        assert recipe.diffusion.schedule == "sd" and recipe.diffusion.prediction == "eps"
        if gated:
            assert set(conditioning.rules.values()) == {"attention"}
    by_class = {"mmdit": "both", "dit": "modulation", "mdtv2": "modulation"}
    for model in DENOISERS:
        rules = arms[f"{model}-plain"].conditioning.rules
        if "text" in name:
            assert rules["text"] == "attention" and ("pooled" in rules) == (model == "mmdit")
        else:
            assert rules == {"label": by_class.get(model, "attention")}
    assert study.seeds == ((0,) if scale == "paper" else (0, 1, 2, 3, 4))


@pytest.mark.parametrize("scale", STUDIES["table1-512"].scales)
@pytest.mark.parametrize(("low", "high"), [CLASSES, TEXT])
def test_the_higher_side_goes_on_from_the_arms_of_the_lower_one(low, high, scale):
    """Their recipes are the same to the last setting, so that a run can take a start's place."""
    first, second = get_study(low, scale=scale), get_study(high, scale=scale)
    starts = second.starts
    assert list(starts) == list(first.arms())
    for arm, recipe in first.arms().items():
        assert difference(recipe, starts[arm]) == {}
    for arm, recipe in second.arms().items():
        assert recipe.init.run == f"@{arm}"
        assert recipe.init.transfer == (("positions",) if "mdtv2" in arm else ())
        assert recipe.data.resolution == 2 * starts[arm].data.resolution
        assert (starts[arm].diffusion.rescale, recipe.diffusion.rescale) == (1.0, 2.0)
        if base := getattr(recipe.denoiser, "base_grid", None):
            assert base == starts[arm].denoiser.base_grid
        assert recipe.train.images * 4 == starts[arm].train.images


def test_the_data_sets_of_the_paper_s_transfer_need_two_folders():
    for name, start in (("datasets", "other"), ("class-to-text", "classes")):
        study = get_study(name, scale="paper")
        study.check()
        with pytest.raises(ConfigError, match=f"{start}.*--other-data-path FOLDER"):
            with_data_path(study, "target")
        with pytest.raises(ConfigError, match="needs images: give --data-path"):
            with_data_path(study, None, "before")
        given = with_data_path(study, "target", "before")
        assert {arm.data.path for arm in given.arms().values()} == {"target"}
        assert given.starts[start].data.path == "before"
        first, second = (arm.train.images for arm in given.arms().values())
        assert first == second + given.starts[start].train.images
        assert study.reproduce[-1].endswith("--data-path FOLDER --other-data-path FOLDER")
    rules = [
        [arm.init.transfer for arm in get_study(name, scale="paper").arms().values()]
        for name in ("datasets", "class-to-text")
    ]
    assert rules == [[(), ("classes",)], [(), ("semantics",)]]
    kinds = {n: one.conditioning.semantic.kind for n, one in given.starts.items()}
    assert kinds == {"classes": "label"}


@pytest.mark.parametrize(("name", "scale"), [("datasets", "cpu"), ("table1-512", "paper")])
def test_a_second_folder_that_nothing_reads_is_refused(name, scale):
    study = get_study(name, scale=scale)
    path = "photos" if scale == "paper" else None
    with pytest.raises(ConfigError, match="--other-data-path before has no effect: remove it"):
        with_data_path(study, path, "before")


def test_a_plan_of_a_study_has_a_row_for_each_run_and_what_it_starts_from(capsys):
    assert main(["plan", "--study", "datasets", "--scale", "demo", "--markdown", "True"]) == 0
    head, _, *rows, total = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[:3] for row in cells] == [
        ["@other", "", "64"],
        ["scratch", "", "64"],
        ["pretrained", "@other", "64"],
    ]
    hours = head.strip("| ").split(" | ").index("device-hours")
    summed = sum(float(row[hours]) for row in cells)
    stated = float(total.strip("| ").split("|")[hours])
    assert stated == pytest.approx(summed, rel=0.01)  # three digits each
    assert "one seed" in total


def test_runs_that_share_a_training_are_planned_and_counted_once(capsys):
    """The three arms of sampling-control differ in sampling alone."""
    assert (
        main(["plan", "--study", "sampling-control", "--scale", "demo", "--markdown", "True"]) == 0
    )
    head, _, *rows, total = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in [*rows, total]]
    first, *others, last = cells
    assert len(others) == 2
    hours = head.strip("| ").split(" | ").index("device-hours")
    for row in others:
        assert row[1] == f"training of {first[0]}" and not any(row[2:])
    seeds = len(get_study("sampling-control", scale="demo").seeds)
    assert float(last[hours]) == pytest.approx(seeds * float(first[hours]), rel=0.01)


def test_a_plan_without_a_study_says_what_to_type(capsys):
    assert main(["plan", "--study"]) == 2
    assert "`pippin study list` lists all" in capsys.readouterr().err

# SPDX-License-Identifier: Apache-2.0
"""A study refuses arms that differ outside its axes."""

from dataclasses import replace

import pytest

from pippin.conditioning.config import ConstantGate, PowerCosineGate
from pippin.config import ConfigError, difference
from pippin.denoisers.dit.config import dit
from pippin.recipes.table import get_recipe
from pippin.studies.declaration import Declaration
from pippin.studies.fairness import covered
from pippin.studies.shipped.control import control_axes
from pippin.studies.shipped.table import STUDIES, get_study
from pippin.studies.study import Axis, Study

DECLARED = {"name": "s", "title": "S", "question": "?", "primary": "drift"}


def test_arms_differ_exactly_in_the_axes(study):
    arms = study.arms()
    assert list(arms) == ["entangled", "disentangled"]
    found = difference(arms["entangled"], arms["disentangled"])
    assert found["conditioning.rules"] == ({"label": "modulation"}, {"label": "attention"})
    assert found["conditioning.control.low_gate.kind"] == ("constant", "power-cosine")
    assert all(covered(path, study.paths) for path in found)
    study.check()


def test_full_product_of_levels(base):
    axes = control_axes(PowerCosineGate(alpha=2.0))
    arms = Study(base=base, axes=axes, **DECLARED).arms()
    assert list(arms) == [
        "modulation-constant",
        "modulation-scheduled",
        "attention-constant",
        "attention-scheduled",
    ]
    assert arms["modulation-scheduled"].conditioning.control.low_gate == PowerCosineGate(alpha=2.0)
    assert arms["attention-constant"].conditioning.control.low_gate == ConstantGate()


def test_from_recipes_keeps_the_recipes(base):
    other = replace(base, denoiser=dit("tiny"))
    study = Study.from_recipes(
        {"mmdit": base, "dit": other}, axes={"model": ("denoiser",)}, **DECLARED
    )
    assert study.arms() == {"mmdit": base, "dit": other}


def test_from_recipes_refuses_another_difference(base):
    other = replace(base, denoiser=dit("tiny"), train=replace(base.train, learning_rate=0.5))
    with pytest.raises(ConfigError, match=r"train\.learning_rate: 0\.0001 and 0\.5"):
        Study.from_recipes({"a": base, "b": other}, axes={"model": ("denoiser",)}, **DECLARED)


def test_settings_that_change_no_number_may_differ(base):
    other = replace(base, denoiser=dit("tiny"), train=replace(base.train, device="cuda"))
    Study.from_recipes({"a": base, "b": other}, axes={"model": ("denoiser",)}, **DECLARED)


def test_recipes_of_two_families_are_not_compared_by_silence():
    recipes = {name: get_recipe(f"{name}/dit-entangled") for name in ("openmoji", "folder")}
    with pytest.raises(ConfigError, match="family: 'openmoji' and 'folder'"):
        Study.from_recipes(recipes, axes={"data": ("data",)}, **DECLARED)
    both = ("family", "data", "autoencoder.normalisation")
    Study.from_recipes(recipes, axes={"recipe": both}, **DECLARED)


@pytest.mark.parametrize("name", STUDIES)
def test_shipped_studies_are_fair(name):
    get_study(name).check()


@pytest.mark.parametrize("paths", [("train",), ("train.learning_rate",)])
def test_budgets_are_equal_unless_they_are_the_question(base, paths):
    other = replace(base, train=replace(base.train, images=20_000))
    with pytest.raises(ConfigError, match=r"train\.images: 10000 and 20000"):
        Study.from_recipes({"a": base, "b": other}, axes={"t": paths}, **DECLARED)
    Study.from_recipes({"a": base, "b": other}, axes={"t": ("train.images",)}, **DECLARED)


def _axis(path: str, *values: object) -> Axis:
    return Axis(levels={f"l{i}": {path: value} for i, value in enumerate(values)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": ()}, "one at least"),
        ({"seeds": (1, 1)}, "different integers"),
        ({"seeds": (-1,)}, ">= 0"),
        ({"smallest_effect": 0.0}, "must be > 0"),
        ({"name": "../x"}, "cannot name a study"),
        ({"combinations": {"a": {"path": "attention"}, "b": {}}}, "must name one level"),
        (
            {"combinations": {"a": {"path": "x", "gate": "constant"}}},
            r"axis 'path' has no level 'x'; it has \['modulation', 'attention'\]",
        ),
        ({"combinations": {"a": {"path": "attention", "gate": "constant"}}}, "two arms or more"),
        (
            {"combinations": {n: {"path": "attention", "gate": "constant"} for n in ("a", "b")}},
            "'a' and 'b' are the same recipe",
        ),
        (
            {"axes": {"s": _axis("seed", 0, 1)}, "combinations": None},
            "the seed is no axis",
        ),
        (
            {
                "axes": {"x": _axis("train.images", 1, 2), "y": _axis("train.images", 3, 4)},
                "combinations": None,
            },
            "both called|same setting",
        ),
        ({"axes": {"x": _axis("train.imagez", 1, 2)}, "combinations": None}, "has no 'imagez'"),
    ],
)
def test_unfair_or_impossible_studies_are_refused(study, changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(study, **changes).check()


def test_overlapping_axes_are_refused(study, base):
    axes = {"x": _axis("denoiser", base.denoiser, dit("tiny")), "y": _axis("denoiser.depth", 2, 3)}
    axes["y"] = Axis(levels={"two": {"denoiser.depth": 2}, "three": {"denoiser.depth": 3}})
    with pytest.raises(ConfigError, match="two axes set the same setting"):
        replace(study, axes=axes, combinations=None).check()


def test_levels_of_an_axis_set_the_same_settings():
    with pytest.raises(ConfigError, match=r"train\.images"):
        Axis(levels={"a": {"train.images": 1}, "b": {"seed": 1}})
    with pytest.raises(ConfigError, match="two levels"):
        Axis(levels={"a": {"train.images": 1}})


def test_declaration_survives_the_disk(study, tmp_path):
    study.declaration().save(tmp_path / "study.json")
    loaded = Declaration.load(tmp_path / "study.json")
    assert loaded == study.declaration()
    assert set(loaded.paths) == set(study.paths)

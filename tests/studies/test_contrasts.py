# SPDX-License-Identifier: Apache-2.0
"""Contrasts: weights against closed forms, refusals, and what survives the disk."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pippin.config import ConfigError
from pippin.studies.contrasts import (
    ContrastTerm,
    check_contrasts,
    difference,
    interaction,
    linear,
    main_effect,
    minus,
)
from pippin.studies.declaration import Declaration
from pippin.studies.study_folder import declare

SAID = {"name": "c", "claim": "The gate lowers drift."}
SQUARE = {
    f"{path}-{gate}": {"path": path, "gate": gate}
    for path in ("modulation", "attention")
    for gate in ("off", "on")
}


def weights(contrast):
    return {term.arm: term.weight for term in contrast.terms}


def value(contrast, means):
    """The contrast of made means, by arm."""
    return sum(term.weight * means[term.arm] for term in contrast.terms)


def square_means(path, gate, both):
    """Means of the four arms with known effects."""
    return {
        arm: 3
        + path * (at["path"] == "attention")
        + gate * (at["gate"] == "on")
        + both * (at == {"path": "attention", "gate": "on"})
        for arm, at in SQUARE.items()
    }


def test_difference():
    assert weights(difference("a", "b", "FD", **SAID)) == {"a": -1.0, "b": 1.0}


def test_main_effect_uses_every_arm_and_is_the_mean_of_the_simple_effects():
    found = main_effect(SQUARE, "gate", "off", "on", "FD", **SAID)
    assert sorted(weights(found).values()) == [-0.5, -0.5, 0.5, 0.5]
    assert value(found, square_means(2.0, -0.7, 0.4)) == pytest.approx(-0.7 + 0.4 / 2)
    assert {term.metric for term in found.terms} == {"FD"}


def test_main_effect_of_two_levels_of_three():
    arms = {f"{a}{b}": {"a": a, "b": b} for a in "xyz" for b in "12"}
    found = main_effect(arms, "a", "x", "z", "FD", **SAID)
    assert set(weights(found)) == {"x1", "x2", "z1", "z2"}


def test_interaction_is_the_difference_of_the_two_effects():
    found = interaction(
        SQUARE, ("gate", "off", "on"), ("path", "modulation", "attention"), "FD", **SAID
    )
    assert value(found, square_means(2.0, -0.7, 0.4)) == pytest.approx(0.4)
    turned = interaction(
        SQUARE, ("path", "modulation", "attention"), ("gate", "off", "on"), "FD", **SAID
    )
    assert weights(turned) == weights(found)


def test_effects_of_unbalanced_designs_are_refused():
    three = {arm: at for arm, at in SQUARE.items() if arm != "attention-on"}
    with pytest.raises(ConfigError, match=r"same levels.*attention"):
        main_effect(three, "gate", "off", "on", "FD", **SAID)
    with pytest.raises(ConfigError, match=r"no arm is at .*'half'.*off.*on"):
        main_effect(SQUARE, "gate", "half", "on", "FD", **SAID)
    with pytest.raises(ConfigError, match="they are one level"):
        main_effect(SQUARE, "gate", "on", "on", "FD", **SAID)


@pytest.mark.parametrize("positions", [None, (0.0, 0.5, 1.0, 2.0, 4.0)])
def test_linear_is_the_least_squares_slope(positions):
    arms = ["constant", "half", "one", "two", "four"]
    means = dict(zip(arms, [0.3, -0.2, 0.9, 1.1, 0.4], strict=True))
    expected = np.polyfit(range(5) if positions is None else positions, list(means.values()), 1)[0]
    found = linear(arms, "drift", positions, **SAID)
    assert value(found, means) == pytest.approx(expected)
    assert sum(weights(found).values()) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("positions", [(1.0, 2.0), (1.0, 1.0, 1.0)])
def test_linear_refuses_what_is_no_axis(positions):
    with pytest.raises(ConfigError, match="one position for each arm"):
        linear(["a", "b", "c"], "drift", positions, **SAID)


def test_minus_compares_an_effect_on_two_metrics():
    late, early = (difference("a", "b", metric, **SAID) for metric in ("jpeg", "brightness"))
    found = minus(late, early, **SAID, scale="share of real")
    assert [(t.arm, t.metric, t.weight) for t in found.terms] == [
        ("a", "jpeg", -1.0),
        ("b", "jpeg", 1.0),
        ("a", "brightness", 1.0),
        ("b", "brightness", -1.0),
    ]
    assert found.metrics == ("jpeg", "brightness")


def _one(**changes):
    """A contrast; choices are set behind the type checks that tests have and users have not."""
    made = difference("a", "b", "FD", **SAID)
    for name, value in changes.items():
        object.__setattr__(made, name, value)
    return made


def _term(arm, metric, weight):
    return ContrastTerm(arm=arm, metric=metric, weight=float(weight))


@pytest.mark.parametrize(
    ("contrasts", "message"),
    [
        ([_one(), _one()], "2 contrasts have the name 'c'"),
        ([_one(name=str(i)) for i in range(4)], "4 contrasts are primary .*at most 3"),
        ([difference("a", "z", "FD", **SAID)], "no arm 'z'; the study has: a, b"),
        (
            [_one(terms=(ContrastTerm(arm="a", metric="FD", weight=1.0),))],
            "must sum to 0.*sum to 1",
        ),
        ([_one(terms=())], "terms with finite weights"),
        (
            [_one(terms=(_term("a", "FD", -1.0), _term("b", "KID", 1.0)))],
            "sum to 0 for each metric; got .* for 'FD', which sum to -1",
        ),
        (
            [
                _one(
                    terms=tuple(
                        _term(a, "FD", w) for a, w in zip("abab", (1, -1, -1, 1), strict=True)
                    )
                )
            ],
            "terms with finite weights other than 0; got .*0.0, 0.0",
        ),
        ([_one(role="main")], "role must be one of primary, secondary, exploratory; got 'main'"),
        ([_one(scale="percent")], "scale must be one of raw, share of real"),
        ([_one(predicted="less")], "predicted must be one of negative, positive, none, open"),
        ([_one(smallest_effect=-1.0)], "smallest_effect must be > 0; got -1"),
        ([_one(predicted="none")], "needs smallest_effect"),
        ([_one(claim=" ")], "name and a claim"),
    ],
)
def test_impossible_contrasts_are_refused(contrasts, message):
    with pytest.raises(ConfigError, match=message):
        check_contrasts(contrasts, ["a", "b"])


def test_secondary_contrasts_are_not_counted():
    check_contrasts([_one(name=str(i), role="secondary") for i in range(9)], ["a", "b"])


def _studied(study):
    first, second = study.arms()
    said = difference(first, second, "drift", **SAID, predicted="negative", smallest_effect=0.01)
    return replace(study, contrasts=(said,))


def test_a_study_checks_its_contrasts(study):
    _studied(study).check()
    with pytest.raises(ConfigError, match="no arm 'nobody'"):
        replace(study, contrasts=(difference("nobody", "entangled", "drift", **SAID),)).check()


def test_contrasts_survive_the_disk(study, tmp_path):
    declared = _studied(study).declaration()
    declared.save(tmp_path / "study.json")
    assert Declaration.load(tmp_path / "study.json") == declared


def test_declarations_of_earlier_versions_have_none(study):
    record = json.loads(json.dumps(_studied(study).declaration().to_dict()))
    del record["contrasts"]
    assert Declaration.from_dict(record).contrasts == ()


def test_contrasts_cannot_be_changed_after_the_first_run(study, finished):
    declare(study, finished)
    with pytest.raises(ConfigError, match="declares contrasts"):
        declare(_studied(study), finished)


def test_their_metrics_are_declared(study):
    extra = minus(
        difference(*study.arms(), "FD", **SAID), difference(*study.arms(), "KID", **SAID), **SAID
    )
    assert replace(study, contrasts=(extra,)).declared_metrics == ("drift", "effect", "FD", "KID")

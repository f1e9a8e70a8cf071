# SPDX-License-Identifier: Apache-2.0
"""The shipped studies at every scale: fair comparisons that ask what they say."""

import pytest

from pippin.config import ConfigError, difference
from pippin.run.checks import check_recipe
from pippin.studies.controlbench import controlbench_study
from pippin.studies.scales import SCALES
from pippin.studies.table import STUDIES, get_study, on_data

ALL = [(name, scale) for name, shipped in STUDIES.items() for scale in shipped.scales]


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_every_scale_is_a_fair_comparison_declared_beforehand(name, scale):
    study = get_study(name, scale=scale)
    study.check()
    assert study.primary and study.companions
    assert name == "demo" or study.name == f"{name}-{scale}"
    if name != "demo":
        place = " --data-path FOLDER" if scale == "paper" else ""
        assert f"pippin study run {name} --scale {scale}{place}" == study.reproduce[-1]
    recipes = [*study.arms().values(), *study.starts.values()]
    for recipe in recipes:
        check_recipe(recipe)  # which training does before anything else
    extras = study.reproduce[0]
    assert ("text" in extras) == any(one.conditioning.semantic.kind == "text" for one in recipes)
    arts = {art for one in recipes for art in getattr(one.data, "art", ())}
    assert ("twemoji" in extras) == ("twemoji" in arts)


def test_given_seeds_are_part_of_the_command():
    assert get_study("padding", (7, 8), "cpu").reproduce[-1].endswith("--scale cpu --seeds 7 8")


def test_no_correlation_is_claimed_of_pictures_without_the_dial():
    assert "decided by its class" in get_study("control", scale="cpu").title
    assert "class" not in get_study("control", scale="paper").title
    with pytest.raises(ConfigError, match=r"correlation .* \(0\.3\) .*data\.kind images"):
        controlbench_study({}, scale="paper", correlation=0.3)


def test_a_verdict_rests_on_five_seeds_where_studies_are_run():
    for name, shipped in STUDIES.items():
        for scale in {"cpu", "gpu-hour"} & set(shipped.scales):
            assert len(get_study(name, scale=scale).seeds) >= 5


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_stages_add_up_to_equal_totals(name, scale):
    """Image tokens (an image at half the side has a quarter), or images where sides are equal."""
    study = get_study(name, scale=scale)
    # Arms of cropping all have the same two stages, and those of guidance-law are not compared
    # by how good they are.
    if not study.starts or name in ("cropping", "guidance-law"):
        return

    def tokens(recipe):
        run = recipe.init.run
        side = recipe.data.resolution / study.base.data.resolution
        before = tokens(study.starts[run[1:]]) if run else 0
        return recipe.train.images * side**2 + before

    totals = [tokens(arm) for arm in study.arms().values()]
    assert max(totals) - min(totals) <= 2
    for recipe in [*study.arms().values(), *study.starts.values()]:
        assert recipe.train.warmup_images == pytest.approx(0.05 * recipe.train.images, abs=1)


def test_pictures_are_given_where_a_study_needs_some(tmp_path):
    study = get_study("resolution", scale="paper")
    with pytest.raises(ConfigError, match="needs pictures: give --data-path"):
        on_data(study, None)
    given = on_data(study, "photos")
    paths = {one.data.path for one in [*given.arms().values(), *given.starts.values()]}
    assert paths == {"photos"}
    with pytest.raises(ConfigError, match="runs on the embedded pictures; leave"):
        on_data(get_study("resolution", scale="cpu"), "photos")


@pytest.mark.parametrize("scale", SCALES)
def test_the_corners_differ_in_path_and_gate_alone(scale):
    arms = get_study("control", scale=scale).arms()
    assert list(arms) == ["entangled", "gate-alone", "attention-alone", "disentangled"]
    far = difference(arms["entangled"], arms["disentangled"])
    assert {path.rsplit(".", 1)[0] for path in far} <= {
        "conditioning",
        "conditioning.control",
        "conditioning.control.low_gate",
    }


def test_the_dial_ties_size_to_class():
    for name, wanted in (("control", 1.0), ("control-independent", 0.0)):
        law = get_study(name, scale="cpu").base.data.size_law
        assert law.class_correlation == wanted


@pytest.mark.parametrize("name", ["guidance", "sampling-control"])
def test_arms_that_differ_in_sampling_train_alike(name):
    first, *others = get_study(name, scale="cpu").arms().values()
    for other in others:
        assert all(path.startswith("sampling.") for path in difference(first, other))


def test_the_arms_of_the_law_of_scales_differ_in_side_and_its_noise():
    half, full = get_study("guidance-law", scale="cpu").arms().values()
    assert difference(half, full) == {"data.resolution": (32, 64), "diffusion.rescale": (1.0, 2.0)}
    assert len(half.evaluation.scales) >= 5


def test_a_scale_that_a_study_lacks_is_refused():
    with pytest.raises(ConfigError, match="study 'demo' has no scale 'paper'; it has: demo"):
        get_study("demo", scale="paper")

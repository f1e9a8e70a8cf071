# SPDX-License-Identifier: Apache-2.0
"""The shipped studies at every scale: fair comparisons that ask what they say."""

import re
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import pytest
import torch

from pippin.config import ConfigError, difference, fingerprint
from pippin.diffusion.rescale import build_schedule
from pippin.recipes.checks import check_recipe
from pippin.recipes.recipe import Recipe
from pippin.sampling.sampler import Sampler
from pippin.settings.marks import NOT_PROTOCOL
from pippin.studies.declaration import Declaration
from pippin.studies.execution import execute
from pippin.studies.runner import refuse_unmeasured
from pippin.studies.shipped.controlbench import controlbench_study
from pippin.studies.shipped.options import (
    ROUNDING,
    EvaluationMachine,
    FeatureChoice,
    MachineSettings,
    SamplingMachine,
    TrainMachine,
    with_data_path,
    with_features,
    with_machine_settings,
)
from pippin.studies.shipped.scales import EVALUATION_PARTS, SCALES, SCALES_WITH_RESULTS
from pippin.studies.shipped.table import STUDIES, get_study

RESULTS = sorted(one.parent for one in Path(__file__).parents[3].glob("results/*/study.json"))
NEWER = {
    "blocks",
    "few-steps",
    "guidance-apart",
    "late-control",
    "latents",
    "masking",
    "positions",
    "rankings",
    "repa",
    "semantic-path",
    "shapes-guidance",
    "shapes-padding",
    "shapes-padding-short",
}
"""Studies whose kept runs read their learning rates in the middle of each step."""
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "shipped-studies.md"
ALL = [(name, scale) for name, shipped in STUDIES.items() for scale in shipped.scales]


@cache
def studies_at(scale):
    """All studies that have a scale."""
    return {
        name: get_study(name, scale=scale)
        for name, shipped in STUDIES.items()
        if scale in shipped.scales
    }


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_every_scale_is_a_fair_comparison_declared_beforehand(name, scale):
    study = get_study(name, scale=scale)
    study.check()
    assert study.primary and study.companions
    assert name in ("demo", "demo-quick") or study.name == f"{name}-{scale}"
    if name != "demo":
        place = " --data-path FOLDER" if scale == "paper" else ""
        if place and name in ("datasets", "class-to-text"):
            place += " --other-data-path FOLDER"
        assert f"pippin study run {name} --scale {scale}{place}" == study.reproduce[-1]
    recipes = [*study.arms().values(), *study.starts.values()]
    for recipe in recipes:
        check_recipe(recipe)  # which training does before anything else
    extras = study.reproduce[0]
    assert ("text" in extras) == any(one.conditioning.semantic.kind == "text" for one in recipes)
    arts = {art for one in recipes for art in getattr(one.data, "art", ())}
    assert ("twemoji" in extras) == ("twemoji" in arts)


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_titles_and_questions_say_image(name, scale):
    study = get_study(name, scale=scale)
    assert "picture" not in f"{study.title} {study.question}".lower()


@pytest.mark.parametrize("folder", RESULTS, ids=lambda path: path.name)
def test_kept_results_are_of_the_studies_that_are_shipped(folder):
    """So that runs can be added to them: every setting of every arm and start is the same, apart
    from options that the command under the table names."""
    kept = Declaration.load(folder / "study.json")
    name, _, scale = kept.name.rpartition("-")
    study = get_study(name, scale=scale)
    recipes, recorded_recipes = study.arms() | study.starts, kept.arms | kept.starts
    assert list(recipes) == list(recorded_recipes)
    for arm, recorded in recorded_recipes.items():
        recipe = Recipe.from_dict(recorded)
        assert set(difference(recipe, recipes[arm])) <= set(ROUNDING)
        assert fingerprint(recipe) == fingerprint(recipes[arm])
        assert recipe.train.lr_at == ("middle" if name in NEWER else "end")


COMPARATIVES = ("better", "worse", "lower", "lowers", "raises", "improves", "more", "less")
"""Words of a claim that there is a difference, unless "no" stands before them."""


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_a_claim_says_what_is_predicted(name, scale):
    """A report prints "supported" before the claim where no difference was predicted and none
    found."""
    for contrast in get_study(name, scale=scale).contrasts:
        words = contrast.claim.rstrip(".").split()
        found = {
            word
            for before, word in zip(["", *words], words, strict=False)
            if word in COMPARATIVES and before != "no"
        }
        if contrast.claim and contrast.predicted == "none":
            assert not found, contrast.claim


def test_given_seeds_are_part_of_the_command():
    assert get_study("padding", (7, 8), "cpu").reproduce[-1].endswith("--scale cpu --seeds 7 8")


def test_no_correlation_is_claimed_of_images_without_the_dial():
    assert "decided by its class" in get_study("control", scale="cpu").title
    assert "class" not in get_study("control", scale="paper").title
    with pytest.raises(ConfigError, match=r"correlation .* \(0\.3\) .*data\.kind images"):
        controlbench_study({}, scale="paper", correlation=0.3)


def test_a_verdict_rests_on_five_seeds_where_studies_are_run():
    for name, shipped in STUDIES.items():
        # Five seeds of Table 1 at scale paper would take thousands of device-hours.
        large = {"cpu", "gpu-hour"} | ({"paper"} if "table1" not in name else set())
        for scale in large & set(shipped.scales):
            assert len(get_study(name, scale=scale).seeds) >= 5


def listed_after(start, end="."):
    """The studies that a sentence of the page on shipped studies names."""
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert text.count(start) == 1
    return re.findall("`([a-z0-9-]+)`", text.split(start)[1].split(end)[0])


def test_the_page_names_the_studies_that_train_in_fp32():
    recipes = {
        name: [*study.arms().values(), *study.starts.values()]
        for name, study in studies_at("cpu").items()
    }
    assert listed_after("At `cpu` these train in fp32:") == [
        name for name, own in recipes.items() if any(one.train.precision == "fp32" for one in own)
    ]


@pytest.mark.parametrize(
    ("count", "start", "end"),
    [
        (6, "most studies have five seeds:", "have six"),
        (8, "have six,", "eight"),
        (24, "`gate-quality` eight,", "24"),
    ],
)
def test_the_page_names_the_studies_of_more_than_five_seeds(count, start, end):
    for scale in ("cpu", "gpu-hour"):
        studies = {name: len(study.seeds) for name, study in studies_at(scale).items()}
        expected = {name for name, seeds in studies.items() if seeds == count}
        assert set(listed_after(start, end)) == expected
        assert set(studies.values()) == {5, 6, 8, 24}


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_stages_add_up_to_equal_totals(name, scale):
    """Image tokens (half the resolution has a quarter), or images where resolutions are equal."""
    study = get_study(name, scale=scale)
    # Arms of cropping all have the same two stages, and those of guidance-law are not compared
    # by how good they are; those of Table 1 have the stages of the recipes.
    if not study.starts or name in ("cropping", "guidance-law") or name.startswith("table1"):
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


def test_images_are_given_where_a_study_needs_some(tmp_path):
    study = get_study("resolution", scale="paper")
    with pytest.raises(ConfigError, match="needs images: give --data-path"):
        with_data_path(study, None)
    given = with_data_path(study, "photos")
    paths = {one.data.path for one in [*given.arms().values(), *given.starts.values()]}
    assert paths == {"photos"}
    with pytest.raises(ConfigError, match="runs on the embedded images; remove"):
        with_data_path(get_study("resolution", scale="cpu"), "photos")


@pytest.mark.parametrize("name", ["resolution", "guidance-law"])
def test_a_study_fits_a_machine_by_settings_that_change_no_number(name):
    study = get_study(name, scale="gpu-hour")
    machine = MachineSettings(
        train=TrainMachine(micro_batch_size=16, gradient_checkpointing=1, workers=2),
        sampling=SamplingMachine(batch_size=8),
    )
    smaller = with_machine_settings(study, machine)
    for group in ("arms", "starts"):
        before, after = (one.arms() if group == "arms" else one.starts for one in (study, smaller))
        assert {n: fingerprint(one) for n, one in before.items()} == {
            n: fingerprint(one) for n, one in after.items()
        }
        for one in after.values():
            assert (one.train.micro_batch_size, one.train.gradient_checkpointing) == (16, 1)
            assert (one.train.workers, one.sampling.batch_size) == (2, 8)
            assert one.train.compile is False


def test_the_command_that_repeats_a_study_has_the_options_that_round_differently():
    study = get_study("control", scale="cpu")
    train = TrainMachine(muon_gram=True, compile=True, workers=2)
    given = with_machine_settings(study, MachineSettings(train=train))
    options = " --train.compile True --train.muon-gram True"
    assert given.reproduce == (*study.reproduce[:-1], study.reproduce[-1] + options)
    same = with_machine_settings(study, MachineSettings(train=TrainMachine(workers=2)))
    assert same.reproduce == study.reproduce


def test_sizes_of_batches_are_in_the_command_that_repeats_a_study():
    """Matrix products of another batch size round differently."""
    study = get_study("control", scale="cpu")
    machine = MachineSettings(
        sampling=SamplingMachine(batch_size=8), evaluation=EvaluationMachine(batch_size=16)
    )
    command = with_machine_settings(study, machine).reproduce[-1]
    assert command.startswith(study.reproduce[-1])
    assert "--sampling.batch-size 8" in command and "--evaluation.batch-size 16" in command


def test_every_setting_of_a_machine_but_one_changes_no_number():
    """So that a folder begun with some goes on with others."""
    base = get_study("control", scale="cpu").base
    for section in fields(MachineSettings):
        for one in fields(section.default_factory):
            (setting,) = [x for x in fields(getattr(base, section.name)) if x.name == one.name]
            changes = one.name == "muon_precision"
            assert (setting.metadata == NOT_PROTOCOL) is not changes, f"{section.name}.{one.name}"


def test_the_precision_of_muon_is_part_of_what_is_compared():
    study = get_study("control", scale="cpu")
    train = TrainMachine(muon_precision="bf16")
    other = with_machine_settings(study, MachineSettings(train=train))
    assert fingerprint(other.base) != fingerprint(study.base)
    train = TrainMachine(muon_precision="auto")
    same = with_machine_settings(study, MachineSettings(train=train))
    assert fingerprint(same.base) == fingerprint(study.base)


def test_other_features_are_another_protocol_with_metrics_of_their_own():
    study = get_study("padding", scale="gpu-hour")
    chosen = FeatureChoice(kind="inception", weights="inception.pth")
    quality = with_features(get_study("guidance", scale="gpu-hour"), chosen)
    quality.check()
    assert (quality.primary, quality.smallest_effect) == ("KID-inception", None)
    assert quality.base.evaluation.inception == "inception.pth"
    assert quality.reproduce[-1].endswith("--features.kind inception --features.weights PATH")
    loss = with_features(study, chosen)
    assert (loss.primary, loss.smallest_effect) == ("held-out loss", study.smallest_effect)
    assert loss.companions == ("KID-inception", "caption R@10")
    assert difference(loss.base, study.base) == {"evaluation.features": ("inception", "efflite0")}
    assert with_features(study, FeatureChoice()) is study
    with pytest.raises(ConfigError, match=r"--features\.kind .* belong together; got dinov2"):
        with_features(study, FeatureChoice(kind="dinov2"))


@pytest.mark.parametrize("chosen", ["inception", "dinov2"])
@pytest.mark.parametrize("name", ["gate-quality", "positions", "datasets-scarce", "control"])
def test_contrasts_are_measured_in_the_chosen_features_too(name, chosen):
    study = get_study(name)
    other = with_features(study, FeatureChoice(kind=chosen, weights="weights"))
    other.check()
    refuse_unmeasured(other, execute)  # raises if a declared metric is not measured
    assert not any("efflite0" in metric for metric in other.declared_metrics)
    for before, after in zip(study.contrasts, other.contrasts, strict=True):
        assert "efflite0" not in after.name
        same_unit = before.metrics == after.metrics
        assert after.smallest_effect == (before.smallest_effect if same_unit else None)


def test_a_contrast_of_no_difference_is_open_in_other_features():
    study = get_study("positions")
    kept = replace(study.contrasts[1], name="a", scale="share of real", smallest_effect=0.1)
    equal = replace(study.contrasts[1], name="b", predicted="none")
    study = replace(study, contrasts=(kept, equal))
    other = with_features(study, FeatureChoice(kind="dinov2", weights="weights"))
    other.check()
    share, raw = other.contrasts
    assert share.metrics == raw.metrics == ("FD-dinov2",)
    assert (share.smallest_effect, raw.smallest_effect, raw.predicted) == (0.1, None, "open")


def test_measuring_costs_less_than_training_on_the_paper_s_data():
    for name, shipped in STUDIES.items():
        for one in (
            get_study(name, scale="paper").arms().values() if "paper" in shipped.scales else ()
        ):
            assert set(one.evaluation.parts) <= set(EVALUATION_PARTS)
            assert one.sampling.precision == "bf16"
            assert one.train.validate_every == one.train.preview_every == 0


@pytest.mark.parametrize(("scale", "count"), [("cpu", 128), ("gpu-hour", 2000), ("paper", 2000)])
def test_the_best_scale_is_searched_on_as_many_samples_as_a_scale_affords(scale, count):
    assert get_study("control", scale=scale).base.evaluation.scale_samples == count


@pytest.mark.parametrize("scale", SCALES)
def test_the_corners_differ_in_path_and_gate_alone(scale):
    arms = get_study("control", scale=scale).arms()
    corners = ["entangled", "gate-alone", "attention-alone", "disentangled"]
    more = [] if scale in SCALES_WITH_RESULTS else ["sdxl-style"]
    assert list(arms) == corners + more
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


@pytest.mark.parametrize("name", ["guidance", "sampling-control", "autoguidance"])
def test_arms_that_differ_in_sampling_train_alike(name):
    first, *others = get_study(name, scale="cpu").arms().values()
    for other in others:
        assert all(path.startswith("sampling.") for path in difference(first, other))


class Untouched(torch.nn.Module):
    """A network of which only the evaluations are counted."""

    def prepare(self, conditions, keep=None):
        raise AssertionError


@pytest.mark.parametrize("scale", SCALES)
def test_ways_of_guidance_cost_equal_evaluations(scale):
    """The guide is a checkpoint that training keeps, at a quarter of the images."""
    arms = get_study("autoguidance", scale=scale).arms()
    counts = {}
    for arm, recipe in arms.items():
        schedule, network = build_schedule(recipe.diffusion), Untouched()
        sampler = Sampler(network, schedule, recipe.diffusion.prediction, recipe.sampling, network)
        counts[arm] = sampler.evaluations
        assert not recipe.sampling.autoguided or arm == "autoguidance"
    expected = 100 if scale == "paper" else 32
    assert {sum(one) for one in counts.values()} == {expected}
    assert counts["autoguidance"] == (expected / 2, expected / 2)
    train, guide = recipe.train, recipe.sampling.guide_checkpoint
    assert guide == train.keep_every == train.checkpoint_every
    assert guide % train.batch_size == 0 and 0.25 <= guide / train.images < 0.26


def test_the_arms_of_the_law_of_scales_differ_in_side_and_its_noise():
    half, full = get_study("guidance-law", scale="cpu").arms().values()
    assert difference(half, full) == {"data.resolution": (32, 64), "diffusion.rescale": (1.0, 2.0)}
    assert len(half.evaluation.scales) >= 5


def test_a_scale_that_a_study_lacks_is_refused():
    with pytest.raises(ConfigError, match="study 'demo' has no scale 'paper'; it has: demo"):
        get_study("demo", scale="paper")

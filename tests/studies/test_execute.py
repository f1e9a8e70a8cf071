# SPDX-License-Identifier: Apache-2.0
"""Arms that differ in sampling alone are trained once."""

from dataclasses import replace

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from pippin.config import ConfigError, replace_at
from pippin.evaluation.runs.evaluate import evaluate_run
from pippin.evaluation.runs.protocol import Stages
from pippin.recipes.recipe import Recipe
from pippin.runs.trained import load_trained_weights
from pippin.sampling.config import GuidanceConfig
from pippin.sampling.load import load_run
from pippin.studies import execution as module
from pippin.studies.execution import execute, pretrain, result_row
from pippin.studies.shipped.table import get_study
from pippin.training.averaging.config import ShareHalfLife
from pippin.training.config import InitConfig

QUICK = {"parts": ("quality",), "num_samples": 8}


@pytest.fixture(scope="module")
def first(recipe):
    return replace(recipe, evaluation=replace(recipe.evaluation, **QUICK))


def with_scale(recipe, scale):
    guidance = replace(recipe.sampling.guidance, semantic_scale=scale)
    return replace(recipe, sampling=replace(recipe.sampling, guidance=guidance))


def values(measures):
    return {one.name: one.value for one in measures if one.subject == "arm"}


def test_another_scale_takes_the_weights_and_gives_its_own_numbers(first, tmp_path, monkeypatch):
    trained, real = [], module.train

    def train(recipe, folder, **options):
        trained.append(folder.name)
        real(recipe, folder, **options)

    monkeypatch.setattr(module, "train", train)
    one = execute(first, tmp_path / "one-seed0")
    two = execute(with_scale(first, 5.0), tmp_path / "two-seed0")
    assert trained == ["one-seed0"]
    assert values(one)["KID-efflite0"] != values(two)["KID-efflite0"]
    assert values(one)["parameters"] == values(two)["parameters"]
    samplings = [
        {m.protocol["sampling.guidance.semantic_scale"] for m in found if "KID" in m.name}
        for found in (one, two)
    ]
    assert samplings == [{2.0}, {5.0}]
    assert (tmp_path / "two-seed0" / "evaluation" / "samples" / "grid.png").is_file()
    # alone, in a folder where nothing was trained, the same arm gives the same numbers
    alone = execute(with_scale(first, 5.0), tmp_path / "elsewhere" / "two-seed0")
    assert values(alone) == values(two)
    # another seed is another training
    execute(replace(first, seed=1), tmp_path / "one-seed1")
    assert trained == ["one-seed0", "two-seed0", "one-seed1"]


def test_only_a_run_that_kept_an_average_is_taken_for_another_that_samples_it(first, tmp_path):
    """Half-lives are levels of a study: one training, measured at each of its averages."""
    extra = replace(first.train, ema_extra=(ShareHalfLife(share=0.5),))
    averaged = replace(
        first, train=extra, sampling=replace(first.sampling, weights="ema-share-0.5")
    )
    execute(first, tmp_path / "plain-seed0")
    one = execute(averaged, tmp_path / "averaged-seed0")
    assert (tmp_path / "averaged-seed0" / "checkpoints").is_dir()
    two = execute(replace(first, train=extra), tmp_path / "two-seed0")
    assert not (tmp_path / "two-seed0" / "checkpoints").exists()
    assert values(one)["KID-efflite0"] != values(two)["KID-efflite0"]
    assert {m.protocol["model.weights"] for m in one if "KID" in m.name} == {"ema-share-0.5"}


def test_a_run_without_weights_of_its_own_says_whose_it_measured(first, tmp_path):
    execute(first, tmp_path / "one-seed0")
    execute(with_scale(first, 5.0), tmp_path / "two-seed0")
    with pytest.raises(ValueError, match=r"shares the weights of one-seed0, .* identical; give"):
        load_run(tmp_path / "two-seed0")


def test_a_start_is_trained_once_and_found_by_the_layout_of_the_study(recipe, tmp_path):
    low, place = recipe, tmp_path / "starts" / "low-seed0"
    pretrain(low, place)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*.safetensors")}
    pretrain(low, place)
    assert before == {path: path.stat().st_mtime_ns for path in place.rglob("*.safetensors")}
    longer = replace(low, train=replace(low.train, images=96))
    with pytest.raises(ValueError, match="was started with other settings"):
        pretrain(longer, place)
    arm = replace(
        recipe, init=InitConfig(run="@low"), evaluation=replace(recipe.evaluation, **QUICK)
    )
    execute(arm, tmp_path / "runs" / "arm-seed0")
    moved = tmp_path.rename(tmp_path.with_name("moved")) / "runs" / "arm-seed0"
    assert load_run(moved).images_before == 64
    assert Recipe.load(moved / "config.json").init.run == "@low"


def test_another_lpips_is_another_measurement(first, tmp_path):
    torch.manual_seed(0)
    for name in ("a", "b"):
        features = torchvision.models.alexnet(weights=None).features
        tensors = {f"features.{key}": value for key, value in features.state_dict().items()}
        save_file(tensors, tmp_path / f"{name}.safetensors")
    execute(
        replace(first, evaluation=replace(first.evaluation, parts=("held-out",))), tmp_path / "run"
    )
    run = load_run(tmp_path / "run")
    seen = []
    for name in (None, "a", "b"):
        lpips = name and str(tmp_path / f"{name}.safetensors")
        config = replace(first.evaluation, parts=("drift",), lpips=lpips)
        measured = replace(run, recipe=replace(run.recipe, evaluation=config))
        with pytest.MonkeyPatch.context() as patch:  # as a kill after the part would leave it
            patch.setattr(Stages, "done", lambda self: None)
            found = evaluate_run(measured, tmp_path / "run")
        seen.append({m.name: m.value for m in found}.get("LPIPS drift original_size"))
    assert seen[0] is None and seen[1] is not None and seen[2] not in (None, seen[1])


def test_drift_in_lpips_where_a_backbone_is_at_hand(first, tmp_path):
    torch.manual_seed(0)
    features = torchvision.models.alexnet(weights=None).features
    tensors = {f"features.{name}": value for name, value in features.state_dict().items()}
    save_file(tensors, tmp_path / "alexnet.safetensors")
    evaluation = replace(
        first.evaluation, parts=("drift",), lpips=str(tmp_path / "alexnet.safetensors")
    )
    found = execute(replace(first, evaluation=evaluation), tmp_path / "a")
    drift = [one for one in found if one.name == "LPIPS drift original_size"]
    assert {one.subject for one in drift} == {"arm", "real"}
    assert {one.unit for one in drift} == {"LPIPS-alex"}
    absent = replace(evaluation, lpips="absent.pth")
    with pytest.raises(ConfigError, match=r"there is no file absent\.pth"):
        execute(replace(first, evaluation=absent), tmp_path / "b")


def test_only_the_parts_asked_for_are_measured(first, tmp_path):
    found = execute(
        replace(first, evaluation=replace(first.evaluation, parts=("held-out",))), tmp_path / "a"
    )
    names = {one.name for one in found}
    assert "held-out loss" in names and not any("KID" in name for name in names)
    assert {one.subject for one in found} == {"arm"}


def test_a_finished_run_of_another_study_takes_a_start_s_place(recipe, finished_run, tmp_path):
    """By a link, as docs/reference/studies.md puts runs of table1 in the place of starts."""
    start = tmp_path / "starts" / "before-seed0"
    start.parent.mkdir()
    start.symlink_to(finished_run)
    before = {p: p.stat().st_mtime_ns for p in finished_run.rglob("*")}
    pretrain(recipe, start)
    assert {p: p.stat().st_mtime_ns for p in finished_run.rglob("*")} == before
    assert load_trained_weights(str(start)).images_seen == recipe.train.images
    with pytest.raises(ValueError, match="was started with other settings"):
        pretrain(replace_at(recipe, "train.learning_rate", 0.5), start)


def test_an_earlier_checkpoint_of_shared_weights_guides_at_equal_cost(
    first, finished_run, tmp_path
):
    (tmp_path / "trained-seed0").symlink_to(finished_run)
    study = get_study("autoguidance", scale="cpu")
    sampling = replace(
        first.sampling, guidance=GuidanceConfig(guide_scale=2.0), guide_checkpoint=32
    )
    arms = {"cfg": first, "autoguidance": replace(first, sampling=sampling)}
    measures = {
        arm: {one.name: one for one in execute(recipe, tmp_path / f"{arm}-seed0")}
        for arm, recipe in arms.items()
    }
    kids = {arm: found["KID-efflite0"] for arm, found in measures.items()}
    costs = {found["sampling MACs"].value for found in measures.values()}
    assert kids["cfg"].value != kids["autoguidance"].value and len(costs) == 1
    assert kids["autoguidance"].protocol["guide.images_seen"] == 32
    for name in ("KID-efflite0", "sampling MACs"):
        rows = [result_row(study, arm, arms[arm], found[name]) for arm, found in measures.items()]
        assert rows[0].comparable == rows[1].comparable

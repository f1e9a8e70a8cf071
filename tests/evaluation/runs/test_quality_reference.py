# SPDX-License-Identifier: Apache-2.0
"""Samples against training images, held-out ones or statistics of a file, each with its floor."""

from dataclasses import replace

import pytest
import torch

from pippin.config import ConfigError, fingerprint, protocol
from pippin.data.sources.factory import build_source
from pippin.data.views.views import clean_images
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.distances import compare, compare_statistics
from pippin.evaluation.features.extraction import build_features, extract
from pippin.evaluation.reference import load_statistics, save_statistics, stream_statistics
from pippin.evaluation.runs.evaluate import clean_features, evaluate_run
from pippin.evaluation.runs.protocol import check_count, quality_reference
from pippin.recipes.checks import check_recipe
from pippin.recipes.table import RECIPES, get_recipe
from pippin.runs.folder import path_settings
from pippin.sampling.load import load_run

SMALL_SET = EvaluationConfig(num_samples=10, input_size=32, kid_subset_size=8, kid_subsets=4)


@pytest.fixture(scope="module")
def clean(recipe):
    """Features of a split's clean images."""

    def clean(split):
        return clean_features(recipe.data, SMALL_SET, split, torch.device("cpu"))

    return clean


@pytest.fixture(scope="module")
def statistics(recipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("statistics") / "held-out.npz"
    batches = clean_images(build_source(recipe.data, "held-out"), 8)
    found = stream_statistics(build_features(SMALL_SET), batches)
    save_statistics(found, path, "as they are")
    return path


def numbers(measures):
    return {one.name: one.value for one in measures}


def test_validation_measures_against_held_out_images_and_its_floor_is_of_training_ones(clean):
    config = replace(SMALL_SET, reference="validation")
    found = quality_reference(config, build_features(config), clean)
    assert found.images is clean("held-out")
    assert len(found.floor) == config.num_samples < len(clean("train"))
    rows = {tuple(row) for row in clean("train").values.tolist()}
    assert all(tuple(row) in rows for row in found.floor.values.tolist())
    measures = found.compare(found.floor, config, "real")
    assert numbers(measures) == numbers(compare(found.floor, clean("held-out"), config, "real"))
    assert {one.protocol.get("reference") for one in measures} == {"validation"}


def test_training_images_are_the_default_and_leave_protocols_as_they_were(clean):
    found = quality_reference(SMALL_SET, build_features(SMALL_SET), clean)
    assert found.images is clean("train") and found.floor is clean("held-out")
    measures = found.compare(found.floor, SMALL_SET, "real")
    assert measures == compare(clean("held-out"), clean("train"), SMALL_SET, "real")
    assert "reference" not in protocol(SMALL_SET)


def test_a_file_gives_the_frechet_distances_alone(clean, statistics):
    config = replace(SMALL_SET, reference=str(statistics))
    found = quality_reference(config, build_features(config), clean)
    samples = clean("train")
    measures = numbers(found.compare(samples, config, "arm"))
    expected = numbers(compare(samples, clean("train"), config))
    expected |= numbers(compare_statistics(samples, load_statistics(statistics)))
    assert measures == expected
    assert (
        measures["FD-efflite0"]
        > 1
        > abs(numbers(compare(samples, samples, config))["FD-efflite0"])
    )


def test_a_run_is_measured_against_what_is_asked(finished_run, tmp_path):
    recipe = load_run(finished_run).recipe
    asked = {"parts": ("quality", "real"), "reference": "validation"}
    evaluation = replace(recipe.evaluation, **asked)
    run = load_run(finished_run, recipe=replace(recipe, evaluation=evaluation))
    measures = evaluate_run(run, tmp_path)
    distances = [one for one in measures if one.name == "coverage"]
    assert [one.subject for one in distances] == ["arm", "real"]
    held_out = extract(
        build_features(evaluation), clean_images(build_source(run.recipe.data, "held-out"), 8)
    )
    for one in distances:
        assert one.protocol["reference"] == "validation"
        assert one.protocol["reference_hash"] == held_out.image_hash
        assert one.protocol["reference_samples"] == len(held_out)


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({}, r"200 are needed \(evaluation\.kid_subset_size\)"),
        ({"kid_subset_size": 8, "neighbours": 99}, r"101 are .*evaluation\.neighbours and two"),
        ({"num_samples": 5000}, "1281 are needed .*1280 features"),
    ],
)
def test_too_few_held_out_images_say_what_to_give(settings, needed):
    config = EvaluationConfig(reference="validation", **settings)
    with pytest.raises(ValueError, match=f"has 100 held-out images, and {needed}") as error:
        check_count(100, config, 1280)
    for way in ("data.held_out_share", "--evaluation.reference train", "pippin reference FOLDER"):
        assert way in str(error.value)
    check_count(2000, config, 1280)


def test_a_reference_that_is_none_is_refused_before_training(recipe):
    odd = replace(recipe, evaluation=replace(recipe.evaluation, reference="held-out"))
    with pytest.raises(ConfigError, match=r"train, validation .* \.npz, .* got 'held-out'"):
        check_recipe(odd)


def test_a_file_s_path_is_no_part_of_a_protocol_and_is_found_again(recipe):
    first, second = (
        replace(recipe, evaluation=replace(recipe.evaluation, reference=f"{name}/val.npz"))
        for name in ("here", "there")
    )
    assert fingerprint(first) == fingerprint(second) != fingerprint(recipe)
    assert path_settings(first)["evaluation.reference"] == "here/val.npz"
    assert "evaluation.reference" not in path_settings(recipe)


def test_the_comparison_is_against_held_out_images():
    for name in RECIPES:
        wanted = "validation" if name.startswith("paper/") else "train"
        assert get_recipe(name).evaluation.reference == wanted

# SPDX-License-Identifier: Apache-2.0
"""A run that starts from another by rules, and what it says and records."""

import json
import re
from dataclasses import replace

import pytest
from rich.console import Console

from pippin.conditioning.config import ConstantGate, PowerCosineGate, TextSemantic
from pippin.config import ConfigError, replace_at
from pippin.data.config import ImagesConfig
from pippin.denoisers.dit.config import dit
from pippin.recipes.recipe import patches_per_side
from pippin.sampling.load import images_before, load_run
from pippin.system.formats import CHECKSUM, read_versioned_json
from pippin.training.config import InitConfig
from pippin.training.initial_weights import suggestions
from pippin.training.train import train


def starting(recipe, source, *rules):
    return replace(recipe, init=InitConfig(run=str(source), transfer=rules))


def test_a_run_of_other_control_goes_on_from_weights_and_says_what_became_of_them(
    recipe, finished_run, tmp_path
):
    control = replace(recipe.conditioning.control, high=())
    fewer = replace(recipe, conditioning=replace(recipe.conditioning, control=control))
    with pytest.raises(
        ValueError, match=r"bias: \[\d+\] trained, absent here \(init\.transfer control\)"
    ):
        train(starting(fewer, finished_run), tmp_path / "refused")
    console = Console(record=True, width=200, file=(tmp_path / "said").open("w"))
    train(starting(fewer, finished_run, "control"), tmp_path / "run", console=console)
    assert CHECKSUM in (tmp_path / "run" / "transfer.json").read_text()
    report = read_versioned_json(tmp_path / "run" / "transfer.json", "run")
    assert report["counts"]["dropped"] == 15 and report["rules"] == ["control"]
    assert "dropped     conditioner.high.fields.flip.null" in console.export_text()
    state = sorted((tmp_path / "run" / "checkpoints").glob("*/state.json"))[-1]
    (parent,) = json.loads(state.read_text())["lineage"]
    assert parent["transfer"] == report["counts"] and parent["images_seen"] == 64
    assert load_run(tmp_path / "run").images_before == 64


def test_laws_of_another_resolution_are_suggested_where_a_recipe_differs(recipe):
    large = replace(recipe, data=replace(recipe.data, resolution=64))
    noise, scale, positions = suggestions(recipe, large)
    assert "diffusion.rescale 2 keeps" in noise and "it is 1" in noise
    assert "semantic_scale 2 to 3; it is 2" in scale
    grid = patches_per_side(recipe)
    assert f"base_grid {grid} resamples" in positions
    follows = replace(
        replace_at(large, "denoiser.base_grid", grid),
        diffusion=replace(large.diffusion, rescale=2.0),
        sampling=replace(
            large.sampling, guidance=replace(large.sampling.guidance, semantic_scale=3.0)
        ),
    )
    assert suggestions(recipe, follows) == suggestions(recipe, recipe) == []
    rounded = replace(
        follows,
        sampling=replace(
            recipe.sampling,
            guidance=replace(recipe.sampling.guidance, semantic_scale=3.0 + 1e-12),
        ),
    )
    assert suggestions(recipe, rounded) == []


def test_another_meaning_of_the_output_is_named(recipe):
    v = replace_at(recipe, "diffusion.prediction", "v")
    assert suggestions(recipe, v) == [
        "the weights were trained with diffusion.prediction eps; it is v"
    ]


def test_settings_of_the_denoiser_without_a_tensor_are_named(recipe):
    plain = replace(recipe, denoiser=dit("tiny"))
    today = replace(recipe, denoiser=dit("tiny", rotary=True, time_input="data"))
    assert suggestions(plain, today) == [
        "the weights were trained with denoiser.rotary False; it is True",
        "the weights were trained with denoiser.time_input noise; it is data",
    ]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("diffusion.rescale", 2.0, r"diffusion\.rescale 1 at this resolution; it is 2"),
        ("denoiser.base_grid", 2, r"over 4 patches a side .*base_grid lays them over 2"),
        (
            "conditioning.control.low_gate",
            PowerCosineGate(alpha=2.0),
            r"low_gate constant; it is power-cosine \(alpha 2\)",
        ),
        (
            "data",
            ImagesConfig(path="photos", resolution=32),
            r"row by row from data\.kind openmoji to data\.kind images, data\.path photos",
        ),
    ],
)
def test_what_copied_weights_will_read_otherwise_is_named(recipe, path, value, said):
    """At equal resolution and shapes, where every tensor is copied."""
    constant = replace_at(recipe, "conditioning.control.low_gate", ConstantGate())
    changed = replace_at(constant, path, value)
    assert changed.data.resolution == recipe.data.resolution
    (note,) = suggestions(constant, changed)
    assert re.search(said, note), note


def test_a_base_grid_that_is_the_grid_itself_changes_nothing(recipe):
    own = replace_at(recipe, "denoiser.base_grid", patches_per_side(recipe))
    assert suggestions(recipe, own) == []


def test_another_text_encoder_of_equal_width_is_named_unless_its_readers_start_anew(recipe):
    reads = replace(
        recipe.conditioning,
        semantic=TextSemantic(token_features=384, num_tokens=8),
        rules={"text": "attention"},
    )
    text = replace(recipe, conditioning=reads)
    other = replace_at(text, "text.source", ("other/encoder",))
    (note,) = suggestions(text, other)
    assert "it is other/encoder" in note and "init.transfer semantics" in note
    anew = replace(other, init=InitConfig(run="x", transfer=("semantics",)))
    assert suggestions(text, anew) == []


def test_other_classes_that_start_anew_need_no_word(recipe):
    other = replace(
        recipe,
        data=ImagesConfig(path="photos", resolution=recipe.data.resolution),
        init=InitConfig(run="x", transfer=("classes",)),
    )
    assert suggestions(recipe, other) == []


def test_weights_as_they_are_leave_a_report_too(recipe, finished_run, tmp_path):
    train(starting(recipe, finished_run), tmp_path / "run")
    report = read_versioned_json(tmp_path / "run" / "transfer.json", "run")
    assert set(report["counts"]) == {"copied"} and len(report["tensors"]) > 10
    state = sorted((tmp_path / "run" / "checkpoints").glob("*/state.json"))[-1]
    (parent,) = json.loads(state.read_text())["lineage"]
    assert parent["resolution"] == recipe.data.resolution
    assert parent["tokens_per_image"] == patches_per_side(recipe) ** 2


def test_a_total_with_an_unknown_ancestor_is_not_known():
    assert images_before([{"images_seen": 64}, {"images_seen": 100}]) == 164
    assert images_before([]) == 0
    assert images_before([{"images_seen": 64}, {"images_seen": 0}]) is None


def test_rules_without_weights_are_refused():
    with pytest.raises(ConfigError, match=r"init\.transfer needs init\.run"):
        InitConfig(transfer=("classes",))

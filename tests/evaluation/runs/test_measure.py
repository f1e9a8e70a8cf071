# SPDX-License-Identifier: Apache-2.0
"""Sampling and evaluating a finished run: files, protocol, independence of the batch."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from pippin.evaluation.runs.evaluate import evaluate_run
from pippin.evaluation.runs.evaluate_folder import evaluate_folder
from pippin.images.files import image_grid
from pippin.sampling.load import load_run
from pippin.sampling.sample import draw, draw_into
from pippin.studies.execution import execute


def test_images_of_a_seed_do_not_depend_on_the_batch(run):
    config, seeds = run.recipe.sampling, list(range(10))
    latents = {}
    for size in (1, 3, 10):
        sampler = run.sampler(replace(config, batch_size=size))
        from pippin.sampling.request import request_conditions

        conditions = request_conditions(
            [s % 11 for s in seeds], config.control, run.control_names, num_classes=11
        )
        latents[size] = sampler.latents(conditions, seeds, (4, 8, 8))
    for size in (1, 3):
        assert (latents[size] - latents[10]).abs().max() < 1e-4  # fp32 rounding over 3 steps


def test_samples_on_disk_have_ids_and_protocol(run, tmp_path):
    images = draw(run, [0, 5, 5], [4, 9, 7], run.recipe.sampling)
    draw_into(run, [0, 5, 5], [4, 9, 7], run.recipe.sampling, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [row["seed"] for row in manifest["images"]] == [4, 9, 7]
    assert manifest["protocol"]["sampling.steps"] == 3
    assert manifest["protocol"]["sampling.evaluations_per_image"] == 6  # 3 steps, 2 terms
    assert manifest["protocol"]["model.weights"] == "ema"
    for row, image in zip(manifest["images"], images, strict=True):
        with Image.open(tmp_path / row["file"]) as opened:
            assert opened.size == (32, 32)
            assert opened.getpixel((3, 2)) == tuple(image[:, 2, 3].tolist())


def test_raw_and_averaged_weights_differ(finished_run, run):
    raw = load_run(finished_run, "raw")
    name = "denoiser.output.linear.weight"
    assert not torch.equal(raw.model.state_dict()[name], run.model.state_dict()[name])


def test_unknown_class_lists_the_classes(run):
    assert run.label_id("flags") == run.label_id(str(run.label_id("flags")))
    with pytest.raises(ValueError, match="no class 'dog'; there are: 0 "):
        run.label_id("dog")


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no run folder: it has no config\.json"):
        load_run(tmp_path)


def test_evaluation_covers_arm_untrained_and_real(run, tmp_path):
    measures = evaluate_run(run, tmp_path)
    by_subject = {}
    for one in measures:
        by_subject.setdefault(one.subject, set()).add(one.name)
    quality = {"KID-efflite0", "coverage", "FD-efflite0"}
    assert quality | {"held-out loss"} <= by_subject["arm"]
    assert quality | {"held-out loss"} <= by_subject["untrained"]
    assert quality <= by_subject["real"]
    for control in ("original_size", "flip", "crop_corner"):
        assert f"drift {control}" in by_subject["arm"] & by_subject["real"]
        assert f"excess drift {control}" in by_subject["arm"]
        assert (tmp_path / "drift" / f"{control}.png").exists()
        assert (tmp_path / "real" / "drift" / f"{control}.png").exists()
    kid = next(one for one in measures if one.name == "KID-efflite0")
    assert kid.n == 12
    assert kid.protocol["sampling.solver"] == "dpm++"
    untrained = next(m for m in measures if m.subject == "untrained" and m.name == "held-out loss")
    assert untrained.value == pytest.approx(1.0, abs=0.02)  # it predicts 0, noise has variance 1


def test_execute_trains_then_measures_and_goes_on(recipe, tmp_path):
    first = execute(recipe, tmp_path / "run")
    again = execute(recipe, tmp_path / "run")  # nothing left to train
    values = [[(m.name, m.subject, m.value) for m in measures] for measures in (first, again)]
    assert values[0] == values[1]
    lines = (tmp_path / "run" / "results.jsonl").read_text().splitlines()
    assert len(lines) == len(first)
    assert json.loads(lines[0])["protocol"]["train.images"] == 64


def test_a_folder_of_real_images_scores_as_real(run, tmp_path):
    from pippin.data.views.views import clean_view
    from pippin.images.files import save_png

    source = run.components.train_source
    for index in range(len(source)):
        save_png(clean_view(source, index).image, tmp_path / f"{index}.png")
    config = run.recipe.evaluation
    measures = evaluate_folder(tmp_path, run.recipe.data, config, torch.device("cpu"))
    values = {(m.name, m.subject): m.value for m in measures}
    assert values["coverage", "arm"] == 1.0
    assert values["FD-efflite0", "arm"] == pytest.approx(0.0, abs=1e-3)
    assert values["FD-efflite0", "real"] > 1.0


def test_grid_places_images_row_by_row():
    images = torch.stack([torch.full((3, 4, 4), value, dtype=torch.uint8) for value in range(5)])
    sheet = image_grid(images, columns=3, gap=1)
    assert sheet.shape == (3, 11, 16)
    assert sheet[0, 1, 1] == 0
    assert sheet[0, 1, 11] == 2
    assert sheet[0, 6, 6] == 4
    assert sheet[0, 0, 0] == 224


def test_cost_counts_what_a_forward_pass_does(run):
    from pippin.evaluation.metrics.cost import cost_measures

    parameters, macs = cost_measures(run.recipe, 11, (4, 8, 8))
    assert parameters.value == sum(p.numel() for p in run.model.parameters())
    # width 16, 16 image + 4 class tokens, 2 blocks; the last block's context ends at its keys
    image, context, width = 16, 4, 16
    linear = 12 * width**2  # qkv 3, out 1, MLP 8
    full = (image + context) * linear + 2 * (image + context) ** 2 * width
    last = image * linear + context * 3 * width**2 + 2 * image * (image + context) * width
    vectors = (6 + 6 + 6 + 2 + 2) * width**2  # both streams' modulations, and the output's
    ends = 2 * image * 16 * width  # patches of 2 x 2 x 4 numbers, in and out
    assert macs.value == full + last + vectors + ends


def test_a_model_that_reads_one_control_is_probed_for_that_one(recipe, tmp_path):
    from rich.console import Console

    from pippin.conditioning.config import ControlConfig
    from pippin.evaluation.features.extraction import build_features
    from pippin.evaluation.runs.run_drift import drift_measures
    from pippin.sampling.load import untrained_run

    conditioning = replace(recipe.conditioning, control=ControlConfig(high=("flip",), low=()))
    only_flip = untrained_run(replace(recipe, conditioning=conditioning), Console(quiet=True))
    network = build_features(recipe.evaluation, torch.device("cpu"))
    names = {one.name for one in drift_measures(only_flip, tmp_path, network)}
    assert "drift flip" in names
    assert not [name for name in names if "crop" in name or "size" in name]


def test_results_keep_the_training_seed_beside_the_evaluations(recipe):
    from pippin.config import protocol
    from pippin.evaluation.measure import mean_measure
    from pippin.evaluation.metrics.declared.denoising import HELD_OUT_LOSS
    from pippin.evaluation.runs.recording import with_fingerprints

    measure = mean_measure(HELD_OUT_LOSS(), torch.ones(3), seed=5)
    (line,) = with_fingerprints([measure], protocol(replace(recipe, seed=3)))
    assert line["protocol"]["seed"] == 3
    assert line["protocol"]["measure.seed"] == 5
    assert len(line["fingerprint"]) == 16

# SPDX-License-Identifier: Apache-2.0
"""All steps on a custom data set of many image shapes: train, sample, evaluate, report."""

import errno
import json
from dataclasses import replace

import pytest
import torch
from noise_images import write_noise
from processes import run_ranks
from rich.console import Console

from pippin.conditioning.config import ConditioningConfig, NoSemantic
from pippin.data.config import ImagesConfig
from pippin.data.folder.listing import InvalidSourceError
from pippin.evaluation.features.extraction import build_features
from pippin.evaluation.runs.evaluate import clean_features, real_floor
from pippin.evaluation.runs.protocol import quality_reference
from pippin.evaluation.runs.run_drift import Pairs, probes
from pippin.reports.report import render_report
from pippin.sampling.config import GuidanceConfig
from pippin.sampling.load import load_run, untrained_run
from pippin.sampling.sample import draw
from pippin.studies.execution import execute
from pippin.system.files import open_regular
from pippin.training.train import train


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Forty images with sides from 20 to 98."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(40):
        size = (20 + 2 * number, 98 - 2 * number)
        write_noise(folder / f"class {number % 3}" / f"{number}.png", number, size)
    return folder


@pytest.fixture(scope="module")
def own(recipe, photos, tmp_path_factory):
    data = ImagesConfig(
        path=str(photos),
        resolution=32,
        views=2,
        held_out_share=0.25,
        index_folder=str(tmp_path_factory.mktemp("index")),
    )
    return replace(recipe, data=data)


@pytest.fixture(scope="module")
def run_and_measures(own, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "run"
    measures = execute(own, folder)
    return folder, load_run(folder), measures


def test_the_line_goes_from_a_custom_data_set_to_a_report(run_and_measures):
    folder, run, measures = run_and_measures
    assert run.class_names == ("class 0", "class 1", "class 2")
    names = {(one.subject, one.name) for one in measures}
    for subject in ("arm", "real"):
        assert {(subject, "KID-efflite0"), (subject, "drift original_size")} <= names
    lines = (folder / "results.jsonl").read_text().splitlines()
    assert len(lines) == len(measures)
    assert "data.path" in json.loads(lines[0])["protocol"]
    assert render_report(folder).is_file()


def test_real_pairs_are_of_images_with_pixels_enough(run_and_measures):
    _, run, measures = run_and_measures
    pairs, source = Pairs(run), run.components.train_source
    assert 0 < len(pairs.indices) == run.recipe.evaluation.drift_pairs
    assert all(min(source.record(i).size) >= source.probe_side for i in pairs.indices)
    wanted = replace(run.recipe.evaluation, drift_pairs=1000)
    every = Pairs(replace(run, recipe=replace(run.recipe, evaluation=wanted)))
    assert len(source) / 2 <= len(every.indices) < len(source)
    drift = {one.subject: one for one in measures if one.name == "drift original_size"}
    assert drift["real"].n == drift["arm"].n == len(pairs.indices)
    assert drift["real"].protocol["second"]["original_size"] == [source.probe_side] * 2


def test_images_smaller_than_the_probe_leave_it_out(own):
    small = replace(own, data=replace(own.data, resolution=128))
    chosen = probes(untrained_run(small, Console(quiet=True)))
    assert set(chosen) == {"flip", "crop_corner"}


def test_few_held_out_images_have_no_floor_and_that_is_said(own, capsys):
    few = replace(own.data, held_out_share=0.001)
    config, cpu = own.evaluation, torch.device("cpu")
    extractor = build_features(config, cpu)
    reference = quality_reference(
        config, extractor, lambda split: clean_features(few, config, split, cpu)
    )
    assert real_floor(reference, config) == []
    said = " ".join(capsys.readouterr().err.split())
    assert "1 images are held out, and the distances need 7" in said


def test_images_without_labels_train_without_classes(own, tmp_path):
    control = own.conditioning.control
    bare = ConditioningConfig(semantic=NoSemantic(), rules={}, control=control)
    unguided = replace(own.sampling, guidance=GuidanceConfig())
    train(replace(own, conditioning=bare, sampling=unguided), tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert draw(run, [0, 0], [3, 4], run.recipe.sampling).shape == (2, 3, 32, 32)


def test_refused_images_leave_no_run_folder(own, tmp_path):
    data = replace(own.data, min_side=60)
    with pytest.raises(InvalidSourceError, match="too small"):
        train(replace(own, data=data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_skipped_images_are_named_when_training_starts(own, tmp_path):
    console = Console(record=True, quiet=False, file=(tmp_path / "said").open("w"))
    data = replace(own.data, min_side=22, max_lost_share=0.5)
    train(replace(own, data=data), tmp_path / "run", console=console)
    assert "skipped: class 0/0.png: too small" in console.export_text()


def test_processes_that_found_other_images_do_not_train_together(own, tmp_path, monkeypatch):
    """Rank 1 fails to read one image from its disk."""
    own = replace(own, data=replace(own.data, index_folder=str(tmp_path / "index")))

    def work(world, at):
        def failing(path):
            if path.name == "17.png":
                raise OSError(errno.EIO, "Input/output error")
            return open_regular(path)

        if not world.is_rank0:
            monkeypatch.setattr("pippin.images.files.open_regular", failing)
            monkeypatch.setattr("pippin.data.folder.scan._load_index", lambda path: {})
        with pytest.raises(ValueError, match=r"found \d+ training images and skipped \d+; othe"):
            train(own, tmp_path / "run", console=Console(quiet=True))
        return True

    assert run_ranks(2, work, tmp_path / "processes") == [True, True]
    assert not (tmp_path / "run" / "config.json").exists()

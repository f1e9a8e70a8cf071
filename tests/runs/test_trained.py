# SPDX-License-Identifier: Apache-2.0
"""Trained weights go out, come back, and start other runs."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from pippin.cli.main import main
from pippin.config import ConfigError
from pippin.denoisers.mmdit.config import MMDiTConfig
from pippin.distributed.world import World
from pippin.runs import checkpoint as checkpoint_module
from pippin.runs.components import Components
from pippin.runs.folder import RunFolder
from pippin.runs.overview import overview
from pippin.runs.storage.sharded_checkpoint import save_sharded_checkpoint
from pippin.runs.trained import export, load_trained_weights
from pippin.sampling.load import load_run
from pippin.sampling.sample import draw
from pippin.sampling.sample_folder import read_manifest
from pippin.training import initial_weights as initial_weights_module
from pippin.training.averaging.config import ShareHalfLife
from pippin.training.config import InitConfig
from pippin.training.train import build_trainer, train

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "model"
    assert main(["export", str(finished_run), str(folder)]) == 0
    return folder


def test_an_exported_model_samples_what_its_run_samples(finished_run, exported):
    images = []
    for source in (finished_run, exported):
        run = load_run(source, console=QUIET)
        images.append(draw(run, [0, 1, 2], [5, 6, 7], run.recipe.sampling))
        assert run.images_seen == 64
    assert torch.equal(*images)


def test_a_checkpoint_is_read_for_its_checksums_once(finished_run, tmp_path, monkeypatch):
    """By a run that is sampled, and by one that goes on."""
    read, digest = [], checkpoint_module.file_digest
    monkeypatch.setattr(
        checkpoint_module, "file_digest", lambda path: read.append(path.name) or digest(path)
    )
    files = ["ema.safetensors", "model.safetensors", "optimizer.safetensors"]
    load_trained_weights(str(finished_run))
    assert sorted(read) == files
    read.clear()
    run = shutil.copytree(finished_run, tmp_path / "run")
    train(RunFolder(run).recipe(), run, resume=True, console=QUIET)
    assert sorted(read) == files


def test_each_average_of_a_run_is_sampled_by_its_name(recipe, tmp_path):
    extra = (ShareHalfLife(share=0.5),)
    train_config = replace(
        recipe.train, images=32, validate_every=0, preview_every=0, learning_rate=1e-2
    )
    recipe = replace(recipe, train=replace(train_config, ema_extra=extra))
    run, name = tmp_path / "run", "ema-share-0.5"
    train(recipe, run, console=QUIET)
    weights = load_file(run / "checkpoints/32" / f"{name}.safetensors")
    loaded = load_run(run, name, QUIET)
    assert all(torch.equal(weights[n], p) for n, p in loaded.model.named_parameters())
    given = ["sample", str(run), "--seeds", "0:2", "--steps", "2", "--weights"]
    assert main([*given, name, "--out", str(tmp_path / "a")]) == 0
    assert main([*given, "ema", "--out", str(tmp_path / "b")]) == 0
    protocols = [read_manifest(tmp_path / x).protocol for x in "ab"]
    assert [one["model.weights"] for one in protocols] == [name, "ema"]
    contents = [(tmp_path / x / "seed-000000-class-0.png").read_bytes() for x in "ab"]
    assert contents[0] != contents[1]
    assert main(["export", str(run), str(tmp_path / "out"), "--weights", name]) == 0
    assert load_trained_weights(str(tmp_path / "out"), name).weights == name
    with pytest.raises(
        ValueError, match=r"no weights 'ema-share-0\.1'; available: ema, raw, ema-sh"
    ):
        load_trained_weights(str(run), "ema-share-0.1")
    less = replace(recipe, train=train_config)
    with pytest.raises(ValueError, match=r"train\.ema_extra: \['ema-share-0\.5'\] -> \[\]"):
        train(less, run, resume=True)
    wrong = replace(less, sampling=replace(less.sampling, weights=name))
    with pytest.raises(ConfigError, match=r"ema-share-0\.5 is no average of this .*: ema, raw;"):
        train(wrong, tmp_path / "new")


@pytest.fixture
def sharded_run(finished_run, tmp_path):
    """The run with its newest checkpoint sharded, as one process writes it."""
    run = shutil.copytree(finished_run, tmp_path / "sharded")
    shutil.rmtree(run / "checkpoints")
    whole = checkpoint_module.load_checkpoint(finished_run / "checkpoints/64")
    save_sharded_checkpoint(run / "checkpoints", whole, keep=1, world=World())
    return run


def test_a_sharded_checkpoint_is_exported_to_the_same_file_and_resumed(
    finished_run, sharded_run, exported, recipe, tmp_path
):
    assert main(["export", str(sharded_run), str(tmp_path / "out")]) == 0
    written, expected = (folder / "model.safetensors" for folder in (tmp_path / "out", exported))
    assert written.read_bytes() == expected.read_bytes()
    for weights in ("ema", "raw"):
        own, other = (load_trained_weights(str(r), weights) for r in (sharded_run, finished_run))
        assert own.sha256 == other.sha256 and own.images_seen == 64
    train(recipe, sharded_run, resume=True, console=QUIET)
    assert overview(sharded_run).state == "finished"


def test_half_precision_rounds_and_nothing_else(finished_run, tmp_path):
    trained = load_trained_weights(str(finished_run))
    export(trained, tmp_path / "half", torch.float16)
    half = load_trained_weights(str(tmp_path / "half"))
    assert set(half.tensors) == set(trained.tensors)
    for name, value in half.tensors.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, trained.tensors[name].half().float()), name


def test_a_run_starts_at_the_weights_it_names(recipe, exported, tmp_path):
    begun = replace(recipe, init=InitConfig(run=str(exported)), seed=3)
    train(replace(begun, train=replace(begun.train, learning_rate=1e-12)), tmp_path / "run")
    parent = load_trained_weights(str(exported))
    for part in ("model", "ema"):
        last = load_file(tmp_path / "run" / "checkpoints" / "64" / f"{part}.safetensors")
        for name, value in parent.tensors.items():
            torch.testing.assert_close(last[name], value, rtol=0, atol=1e-6)


def test_lineage_travels_through_two_generations(recipe, exported, finished_run, tmp_path):
    child = replace(recipe, init=InitConfig(run=str(exported)))
    train(child, tmp_path / "child")
    state = json.loads((tmp_path / "child" / "checkpoints" / "64" / "state.json").read_text())
    assert [one["images_seen"] for one in state["lineage"]] == [64]
    export(load_trained_weights(str(tmp_path / "child")), tmp_path / "exported")
    parents = load_trained_weights(str(tmp_path / "exported")).as_parent()
    assert [one["source"] for one in parents] == [str(exported), str(tmp_path / "exported")]
    assert parents[0]["sha256"] == load_trained_weights(str(finished_run)).sha256


def test_resuming_before_the_first_checkpoint_starts_at_the_same_weights(
    recipe, exported, tmp_path
):
    begun = replace(recipe, init=InitConfig(run=str(exported)))
    train(begun, tmp_path / "whole")
    begun.save(tmp_path / "config.json")  # a run that was killed at once
    train(begun, tmp_path, resume=True)
    paths = [folder / "checkpoints" / "64" for folder in (tmp_path / "whole", tmp_path)]
    for part in ("model", "ema", "optimizer"):
        first, second = (load_file(path / f"{part}.safetensors") for path in paths)
        assert all(torch.equal(first[name], second[name]) for name in first), part


def test_weights_of_another_model_are_refused_by_name(recipe, exported, tmp_path):
    wider = replace(
        recipe,
        init=InitConfig(run=str(exported)),
        denoiser=MMDiTConfig(depth=2, width=32, num_heads=2),
    )
    with pytest.raises(ValueError, match=r"do not fit, and .*\n.* trained, .* here"):
        train(wider, tmp_path / "run")
    deeper = replace(wider, denoiser=MMDiTConfig(depth=3, width=16, num_heads=2))
    with pytest.raises(ValueError, match=r"do not fit this model(.*\n)+.*absent in the weights"):
        load_trained_weights(str(exported)).check_fit(Components(deeper, QUIET).new_model())


def test_weights_that_are_no_numbers_start_nothing(recipe, exported, tmp_path, monkeypatch):
    whole = load_trained_weights(str(exported))
    name, value = next(iter(whole.tensors.items()))
    bad = replace(whole, tensors=whole.tensors | {name: value * torch.nan})
    named = rf"{re.escape(name)} \({value.numel()} NaN of {value.numel()} numbers\)"
    with pytest.raises(ValueError, match=named):
        bad.load_into(Components(recipe, QUIET).new_model())
    monkeypatch.setattr(initial_weights_module, "load_trained_weights", lambda *_: bad)
    with pytest.raises(ValueError, match=rf"init\.run .*{named}"):
        train(replace(recipe, init=InitConfig(run=str(exported))), tmp_path / "run")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "no config.json"),
        ("pippin/nothing", "no model 'pippin/nothing' is shipped; there are"),
    ],
)
def test_what_is_not_there_is_named(source, message):
    with pytest.raises(ValueError, match=message):
        load_trained_weights(source)


def test_raw_weights_are_not_in_an_exported_average(exported):
    with pytest.raises(ValueError, match="holds ema weights only"):
        load_trained_weights(str(exported), "raw")


def test_damaged_and_foreign_files_are_refused(exported, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    whole = (exported / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged or was not exported"):
        load_trained_weights(str(tmp_path))
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="damaged or was not exported"):
        load_trained_weights(str(tmp_path))


def test_an_export_overwrites_nothing(finished_run, exported, capsys):
    before = (exported / "model.safetensors").read_bytes()
    assert main(["export", str(finished_run), str(exported)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert (exported / "model.safetensors").read_bytes() == before


def test_a_trainer_without_a_start_has_no_lineage(recipe, tmp_path):
    assert build_trainer(Components(recipe, QUIET), tmp_path).lineage == ()


def test_a_run_without_a_good_checkpoint_says_whether_there_was_one(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    for path in (run / "checkpoints").glob("*/ema.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"no usable checkpoint: (.|\n)*skipped: .*ema"):
        load_trained_weights(str(run))
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(ValueError, match="no checkpoint yet; train it"):
        load_trained_weights(str(run))

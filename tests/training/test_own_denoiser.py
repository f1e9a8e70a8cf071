# SPDX-License-Identifier: Apache-2.0
"""The example of somebody else's denoiser: trained, resumed, loaded, drawn from and measured."""

import json
from dataclasses import replace

import pytest
import torch
from example_programs import load_example

from pippin.cli.main import main
from pippin.evaluation.runs.evaluate import evaluate_run
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import RECIPES
from pippin.sampling.load import load_run
from pippin.training.train import train


@pytest.fixture(scope="module")
def example():
    yield load_example("own_denoiser")
    del RECIPES["mine/conv"]


@pytest.fixture(scope="module")
def small(example, recipe):
    """The example's recipe at the size of the other tests; blocks are recomputed and by Muon."""
    own = example.recipe()
    return replace(
        recipe,
        conditioning=own.conditioning,
        denoiser=replace(own.denoiser, width=16, depth=2),
        train=replace(recipe.train, gradient_checkpointing=1, muon_learning_rate=1e-2),
        evaluation=replace(recipe.evaluation, parts=("held-out", "quality")),
    )


@pytest.fixture(scope="module")
def folder(example, small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "run"
    example.train_and_draw(small, folder)
    return folder


def test_the_example_trains_and_draws(folder):
    assert (folder / "grid.png").is_file()
    assert json.loads((folder / "config.json").read_text())["denoiser"] == {
        "kind": "conv",
        "width": 16,
        "depth": 2,
    }


def test_its_run_is_loaded_and_measured(example, small, folder):
    run = load_run(folder)
    assert run.recipe == Recipe.load(folder / "config.json") == small
    assert type(run.model.denoiser) is example.Conv and run.images_seen == 64
    found = {one.name: one.value for one in evaluate_run(run, folder) if one.subject == "arm"}
    assert {"KID-efflite0", "held-out loss", "parameters"} <= set(found)


def test_its_run_goes_on_from_a_checkpoint(small, folder, tmp_path):
    """From the middle, to the same weights bit for bit."""
    half = tmp_path / "half"
    train(small, half)
    whole = load_run(half).model.state_dict()
    for newest in (half / "checkpoints").glob("*64"):
        (newest / "model.safetensors").write_bytes(b"torn")
    train(small, half, resume=True)
    again = load_run(half).model.state_dict()
    assert all(torch.equal(again[name], value) for name, value in whole.items())


def test_the_command_line_knows_it(folder, capsys, tmp_path):
    assert main(["show", "mine/conv", "--denoiser.width", "32"]) == 0
    assert "conv" in capsys.readouterr().out
    seeds = ["--seeds", "0:2", "--steps", "2", "--out", str(tmp_path / "out")]
    assert main(["sample", str(folder), "--labels", "flags", *seeds]) == 0
    assert len(list((tmp_path / "out").glob("seed-*.png"))) == 2
    with pytest.raises(SystemExit, match="2"):
        main(["show", "mine/conv", "--denoiser.width", "0"])
    assert "denoiser.width must be 1 or more; got 0" in capsys.readouterr().err


def test_it_is_refused_where_diffusers_has_no_class(folder, capsys, tmp_path):
    out = tmp_path / "out"
    assert main(["export", str(folder), str(out), "--to", "diffusers-model"]) == 2
    assert "diffusers has no model class for denoiser.kind conv" in capsys.readouterr().err
    assert not out.exists()
    assert main(["export", str(folder), str(out)]) == 0
    assert load_run(out).recipe.denoiser.kind == "conv"


def test_its_pipeline_draws_with_pippin(folder, capsys, tmp_path):
    out = tmp_path / "out"
    assert main(["export", str(folder), str(out), "--to", "diffusers"]) == 0
    assert "diffusers has no model class for denoiser.kind conv" in capsys.readouterr().out
    assert load_run(out / "model").recipe.denoiser.kind == "conv"

# SPDX-License-Identifier: Apache-2.0
"""Exports that were copied to another machine, and runs that are used from another folder."""

import json
import os
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from edited_json import edit
from rich.console import Console

from pippin.cli.main import main
from pippin.conditioning.config import TextSemantic
from pippin.encoders.config import AutoencoderConfig, TextConfig
from pippin.encoders.text import MINILM_PACKAGE, encoder_fingerprint
from pippin.runs.trained import export, load_trained_weights
from pippin.sampling.load import load_run
from pippin.sampling.sample import draw
from pippin.sampling.sample_folder import read_manifest
from pippin.training.train import train

QUIET = Console(quiet=True)
RULE = TextSemantic(token_features=384, num_tokens=8, padding="mask", null="empty")


@pytest.fixture(scope="module")
def project(recipe, autoencoder_folder, tmp_path_factory):
    """A folder with an autoencoder, a text encoder, and a run of classes and one of text."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(autoencoder_folder, folder / "autoencoder")
    model = Path(find_spec(MINILM_PACKAGE).origin).parent / "model"
    shutil.copytree(model, folder / "encoder")
    short = replace(recipe.train, images=16, validate_every=0, preview_every=0)
    classes = replace(recipe, autoencoder=AutoencoderConfig(source="autoencoder"), train=short)
    caches = str(tmp_path_factory.mktemp("text"))
    text = replace(
        classes,
        conditioning=replace(recipe.conditioning, semantic=RULE, rules={"text": "attention"}),
        text=TextConfig(source=("encoder",), folder=caches),
    )
    here = Path.cwd()
    os.chdir(folder)
    try:
        train(classes, Path("runs/classes"), console=QUIET)
        train(text, Path("runs/text"), console=QUIET)
    finally:
        os.chdir(here)
    return folder


def images(source: Path | str, **options) -> torch.Tensor:
    run = load_run(source, console=QUIET, **options)
    prompts = ["red apple", "cat"] if run.components.text_rule else [1, 2]
    return draw(run, prompts, [3, 4])


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "elsewhere"


@pytest.mark.parametrize("name", ["classes", "text"])
def test_a_run_is_the_same_from_any_folder_and_so_is_its_copied_export(
    project, elsewhere, name, monkeypatch
):
    from_elsewhere = images(project / "runs" / name)
    export(load_trained_weights(str(project / "runs" / name)), elsewhere / "model")
    monkeypatch.chdir(project)
    from_home = images(f"runs/{name}")
    assert torch.equal(from_home, from_elsewhere)
    away = project.rename(project.with_name("away"))
    try:
        assert torch.equal(images(elsewhere / "model"), from_home)
        export(
            load_trained_weights(str(elsewhere / "model")), elsewhere / "again"
        )  # also of an export
        shutil.rmtree(elsewhere / "model")
        assert torch.equal(images(elsewhere / "again"), from_home)
    finally:
        away.rename(project)


def test_what_is_copied_has_the_fingerprints_of_what_was_trained_with(project, elsewhere):
    run = project / "runs/text"
    assert main(["export", str(run), "model", "--dtype", "bfloat16"]) == 0
    there, here = (load_run(one, console=QUIET) for one in (run, "model"))
    assert here.components.autoencoder.fingerprint == there.components.autoencoder.fingerprint
    assert encoder_fingerprint(here.components.located.text) == there.components.text_fingerprint
    assert here.recipe == there.recipe  # names and fingerprint are the run's
    # A null caption is an encoder's, to the last bit.
    null = "conditioner.text_tokens.null"
    assert torch.equal(here.model.state_dict()[null], there.model.state_dict()[null])
    assert torch.equal(
        here.model.conditioner.text_tokens.null_mask, there.model.conditioner.text_tokens.null_mask
    )


def test_the_null_caption_needs_no_images(project, monkeypatch):
    """As it was when captions of the training images gave it."""

    def fail(*_, **__):
        raise AssertionError("images were opened")

    run = load_run(project / "runs/text", console=QUIET)
    anew = run.components.model_with_null()
    null = run.model.conditioner.text_tokens
    assert torch.equal(null.null, anew.conditioner.text_tokens.null)
    assert torch.equal(null.null_mask, anew.conditioner.text_tokens.null_mask)
    monkeypatch.setattr("pippin.runs.data.run_images.build_source", fail)
    images(project / "runs/text")


def test_an_encoder_that_is_not_copied_is_asked_for(project, elsewhere, capsys):
    assert main(["export", str(project / "runs/text"), "model", "--text-encoder", "False"]) == 0
    assert f"text encoder {project / 'encoder'} is not in the export" in capsys.readouterr().out
    assert not Path("model/text_encoder").exists()
    asked = ["sample", "model", "--prompts", "red", "--seeds", "0:1", "--steps", "2"]
    away = (project / "encoder").rename(project / "moved")
    try:
        assert main([*asked, "--out", "a"]) == 2
        said = capsys.readouterr().err
        assert "text encoder of model is not there" in said and "--text-source" in said
        assert main([*asked, "--out", "a", "--text-source", str(away)]) == 0
        protocol = read_manifest(Path("a")).protocol
    finally:
        away.rename(project / "encoder")
    assert main([*asked, "--out", "b"]) == 0
    assert read_manifest(Path("b")).protocol == protocol  # it is the same encoder


def test_an_encoder_of_an_earlier_versions_run_is_asked_for(project, elsewhere, capsys, tmp_path):
    """Such a run did not record where its paths led."""
    run = shutil.copytree(project / "runs/text", tmp_path / "old")
    (run / "inputs.json").unlink()
    for path in run.glob("checkpoints/*/state.json"):
        state = json.loads(path.read_text())
        del state["inputs"], state["state_sha256"]
        path.write_text(json.dumps(state))
    text = json.loads((run / "config.json").read_text())["text"]
    edit(run / "config.json", text=text | {"source": ["nowhere/encoder"]})
    asked = ["sample", str(run), "--prompts", "red", "--seeds", "0:1", "--steps", "2"]
    asked += ["--autoencoder", str(project / "autoencoder")]
    assert main([*asked, "--out", "a"]) == 2
    said = capsys.readouterr().err.replace("\n", " ")
    assert f"text encoder of {run}" in said and "--text-source FOLDER" in said
    assert main([*asked, "--out", "a", "--text-source", str(project / "encoder")]) == 0


def test_an_autoencoder_that_is_gone_is_asked_for(project, elsewhere, capsys):
    asked = ["sample", str(project / "runs/classes"), "--seeds", "0:1", "--steps", "2"]
    away = (project / "autoencoder").rename(project / "moved")
    try:
        assert main([*asked, "--out", "a"]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "autoencoder.source autoencoder, which was" in said
        assert "--autoencoder FOLDER" in said
        assert main([*asked, "--out", "a", "--autoencoder", str(away)]) == 0
        command = ["export", str(project / "runs/classes")]
        assert main([*command, "bare"]) == 0
        assert "note: the export has no autoencoder" in capsys.readouterr().out
        assert main([*command, "whole", "--autoencoder", str(away)]) == 0
        assert Path("whole/autoencoder/config.json").is_file()
    finally:
        away.rename(project / "autoencoder")


def test_an_autoencoder_of_the_package_stays_a_name(elsewhere):
    assert main(["export", "pippin/openmoji-mmdit-disentangled", "model"]) == 0
    assert {path.name for path in Path("model").iterdir()} == {"config.json", "model.safetensors"}


def test_a_recorded_recipe_is_trained_from_any_folder(project, elsewhere):
    config = project / "runs/classes/config.json"
    assert main(["train", "--config", str(config), "--folder", "again"]) == 0
    ends = [load_run(one, console=QUIET).model.state_dict() for one in ("again", config.parent)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert (Path("again") / "config.json").read_text() == config.read_text()

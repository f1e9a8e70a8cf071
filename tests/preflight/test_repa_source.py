# SPDX-License-Identifier: Apache-2.0
"""The encoder of REPA, checked before a start and listed by ``pippin fetch``."""

import json
from dataclasses import replace

import pytest
import torch
from hub_server import serving_hub
from safetensors.torch import save_file

from pippin.cli.main import main
from pippin.data.config import ImagesConfig
from pippin.data.importing.config import ShardsConfig
from pippin.evaluation.features.dinov2_source import stated_width
from pippin.evaluation.runs.named_models import named_models
from pippin.preflight.checks import failures
from pippin.preflight.inputs import check_repa_encoder
from pippin.preflight.start import Start
from pippin.recipes.table import get_recipe
from pippin.runs.folder import RunFolder
from pippin.training.repa.config import RepaConfig

CONFIG = {"model_type": "dinov2", "hidden_size": 24, "patch_size": 14}
EXAMPLE = r"give a folder or hub name of a DINOv2 .*--train\.repa\.source facebook/dinov2-base"


def dinov2(folder, width=24, **config):
    """Files that the checks read; no DINOv2 loads from them."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    if width:
        tensors = {"embeddings.cls_token": torch.zeros(1, 1, width)}
        save_file(tensors, folder / "model.safetensors")
    return str(folder)


def with_source(source, **data):
    recipe = get_recipe("openmoji/dit-disentangled")
    repa = RepaConfig(encoder="dinov2", source=source, block=1)
    return replace(recipe, train=replace(recipe.train, repa=repa), **data)


def errors(recipe, **options):
    run = options.pop("run", None)
    return list(check_repa_encoder(Start(recipe, recipe, run, **options)))


def test_a_complete_folder_passes_and_its_width_is_stated(tmp_path):
    source = dinov2(tmp_path / "own")
    assert errors(with_source(source)) == []
    assert stated_width(source, "train.repa.source") == 24
    assert errors(get_recipe("openmoji/dit-disentangled")) == []


@pytest.mark.parametrize(
    ("width", "config", "message"),
    [
        (24, {"model_type": "vit"}, r"own' is a 'vit' model, and a 'dinov2' is needed: "),
        (24, {"patch_size": 15}, r"patches of 15 pixels do not divide images of 224.* 14 and 16"),
        (24, {"hidden_size": None}, "states hidden_size None and patch_size 14"),
        (24, {"hidden_size": 48}, r"have 24 features, and config\.json states hidden_size 48"),
        (None, {}, r"own holds no model\.safetensors"),
    ],
)
def test_folders_that_do_not_fit_are_refused(tmp_path, width, config, message):
    recipe = with_source(dinov2(tmp_path / "own", width, **config))
    with pytest.raises(ValueError, match=rf"train\.repa\.source: .*{message}") as refused:
        errors(recipe)
    assert str(refused.value).endswith("--train.repa.source facebook/dinov2-base")


def test_a_missing_folder_is_refused_by_its_check(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPPIN_OFFLINE", "1")
    recipe = with_source(str(tmp_path / "nowhere"))
    failed = failures(Start(recipe, recipe, RunFolder(tmp_path / "run")))
    assert [entry.name for entry in failed] == ["REPA's encoder"]
    message = str(failed[0].error)
    assert message.startswith("train.repa.source: ") and "nowhere" in message
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=rf"empty': the folder has no config\.json: {EXAMPLE}"):
        errors(with_source(str(tmp_path / "empty")))


def test_a_hub_model_is_asked_for_its_configuration_only(tmp_path, monkeypatch):
    files = {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": b"x" * 1000}
    other = {"config.json": b'{"model_type": "vit"}', "model.safetensors": b"x"}
    models = {"own/dinov2-tiny": files, "own/vit": other}
    with serving_hub(monkeypatch, tmp_path / "cache", models) as hub:
        assert errors(with_source("own/dinov2-tiny")) == []
        asked = [request for request in hub.requests if "/resolve/" in request]
        assert asked and all("config.json" in request for request in asked)
        with pytest.raises(ValueError, match="'own/vit' is a 'vit' model"):
            errors(with_source("own/vit"))
        with pytest.raises(ValueError, match=rf"is no folder, and as a hub name it .*{EXAMPLE}"):
            errors(with_source("own/none"))


@pytest.mark.parametrize("last", ["mlp.4", "conv"])
def test_a_resumed_run_needs_an_encoder_of_its_width(tmp_path, last):
    checkpoint = tmp_path / "run" / "checkpoints" / "64"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text("{}")
    tensors = {f"projector.{last}.weight": torch.zeros(24, 8), "other.weight": torch.zeros(3, 3)}
    save_file(tensors, checkpoint / "model.safetensors")
    run = RunFolder(tmp_path / "run")
    fits, larger = (dinov2(tmp_path / f"of {n}", n, hidden_size=n) for n in (24, 48))
    assert errors(with_source(fits), run=run, resume=True) == []
    (refused,) = errors(with_source(larger), run=run, resume=True)
    assert refused.startswith(f"train.repa.source {larger} has 48 features")
    assert "trained with 24: give the model that it began with" in refused
    assert errors(with_source(larger), run=run) == []


def test_images_in_shards_have_no_features(tmp_path):
    recipe = with_source(dinov2(tmp_path / "own"), data=ImagesConfig(path=str(tmp_path)))
    assert errors(recipe) == []
    (refused,) = errors(recipe, shards=ShardsConfig(source="shards"))
    assert "encoded from shards without unpacking: set --train.repa.encoder none" in refused


def test_fetch_lists_the_source_and_names_what_does_not_fit(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PIPPIN_OFFLINE", "1")
    good, bad = dinov2(tmp_path / "good"), dinov2(tmp_path / "bad", model_type="vit")
    listed = {model.setting: model for model in named_models(with_source(good))}
    assert listed["train.repa.source"].present and listed["train.repa.source"].source == good
    assert "train.repa.source" not in {
        model.setting for model in named_models(get_recipe("openmoji/dit-disentangled"))
    }
    words = ["fetch", "openmoji/dit-disentangled", "--list", "--train.repa.encoder", "dinov2"]
    words += ["--train.repa.block", "1", "--train.repa.source"]
    assert main([*words, good]) == 0
    assert f"train.repa.source   {good}  folder, there" in capsys.readouterr().out
    assert main([*words, bad]) == 1
    said = capsys.readouterr().err
    assert f"missing: train.repa.source {bad} (folder); train.repa.source: " in said
    assert "is a 'vit' model" in said


def test_both_failures_are_one_message(tmp_path):
    recipe = with_source(dinov2(tmp_path / "own", model_type="vit"))
    recipe = replace(recipe, cache=replace(recipe.cache, enabled=False))
    failed = failures(Start(recipe, recipe, RunFolder(tmp_path / "run")))
    assert {entry.name for entry in failed} == {"settings", "REPA's encoder"}

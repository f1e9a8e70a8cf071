# SPDX-License-Identifier: Apache-2.0
"""Exported folders for others: no recorded paths, no pickles, and resumption after a stop."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from random_trained import NO_CONTROL, SHAPE, save_t5, text_rule, trained_model

from pippin.cli.main import main
from pippin.conditioning.config import ConditioningConfig
from pippin.denoisers.mmdit.config import MMDiTConfig
from pippin.denoisers.pixart.config import PixArtConfig
from pippin.diffusion.config import DiffusionConfig
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig, TextConfig
from pippin.publish import model_folder
from pippin.publish.facts import Licence, collect_facts
from pippin.publish.model_folder import write_inner_model, write_model_folder
from pippin.publish.pipeline import write_pipeline
from pippin.runs.trained import export, load_trained_weights
from pippin.system.tensors import load_tensors


@pytest.fixture
def trained(tmp_path):
    conditioning = ConditioningConfig(rules={"label": "attention"}, control=NO_CONTROL)
    diffusion = DiffusionConfig(schedule="flow", prediction="flow")
    return trained_model(tmp_path, MMDiTConfig(**SHAPE), conditioning, diffusion)


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def test_a_model_folder_states_no_recorded_paths(finished_run, tmp_path):
    trained = load_trained_weights(str(finished_run))
    assert trained.inputs.places
    facts, _ = write_model_folder(collect_facts(trained), tmp_path / "model")
    back = load_trained_weights(str(tmp_path / "model"))
    assert back.inputs == replace(trained.inputs, places={})
    assert back.sha256 == trained.sha256 and facts.bundled == ("autoencoder0",)


def test_encoders_of_the_hub_are_not_in_the_folder(trained, tmp_path):
    """Beside a local one, which is copied."""
    out = tmp_path / "out"
    (out / "text_encoder").mkdir(parents=True)
    (out / "text_encoder" / "config.json").write_text("{}")
    text = TextConfig(source=(str(tmp_path / "clip"), "google/t5"), combine="features")
    mixed = replace(trained, recipe=replace(trained.recipe, text=text))
    assert model_folder.bundled_names(mixed, out) == ("clip",)


def text_model(folder):
    save_t5(folder / "t5")
    return trained_model(
        folder,
        PixArtConfig(**SHAPE, base_grid=4),
        text_rule(token_features=32, num_tokens=6, projection="mlp", padding="native"),
        DiffusionConfig(schedule="ddpm"),
        TextConfig(source=(str(folder / "t5"),)),
    )


def test_a_stop_after_the_inner_model_loses_no_note(tmp_path):
    facts, out = collect_facts(text_model(tmp_path)), tmp_path / "out"
    first = write_inner_model(facts, out, text_encoders=False)
    assert first[1]  # on the text encoder that is not there
    before = files(out)
    assert write_inner_model(facts, out, text_encoders=False) == first and files(out) == before


def test_paths_of_the_author_are_in_notes_alone(tmp_path):
    facts, out = collect_facts(text_model(tmp_path)), tmp_path / "out"
    notes = write_pipeline(facts, out, text_encoders=False).notes
    card = (out / "README.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in card and "does not include: t5." in card
    assert any(f"model/config.json: text.source.0 {tmp_path / 't5'}" in note for note in notes)


def test_an_autoencoder_of_pickled_weights_becomes_safetensors(trained, tmp_path):
    """Equal numbers; downloads of exports hold no pickles."""
    folder = tmp_path / "kl"
    weights = folder / "diffusion_pytorch_model.safetensors"
    before = Autoencoder.from_folder(folder)
    tensors = load_tensors(weights)
    weights.unlink()
    torch.save(tensors, weights.with_suffix(".bin"))
    before.network.register_to_config(scaling_factor=0.5)
    (folder / "config.json").write_text(before.network.to_json_string())
    pickled = Autoencoder.from_folder(folder)
    recipe = replace(trained.recipe, autoencoder=AutoencoderConfig(source=str(folder)))
    export(replace(trained, recipe=recipe), tmp_path / "out")
    assert not list(tmp_path.glob("out/**/*.bin"))
    back = Autoencoder.from_folder(tmp_path / "out" / "autoencoder")
    assert back.fingerprint == pickled.fingerprint


def test_calls_name_any_folder(trained, tmp_path, monkeypatch):
    for name in ('we"ird', "back\\slash"):
        call = write_pipeline(collect_facts(trained), tmp_path / name).call
        compile(call, "call", "exec")
        assert name in eval(call.partition("from_pretrained(")[2].partition(", trust")[0])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert '"here"' in write_pipeline(collect_facts(trained), Path()).call


def test_a_pipeline_has_licence_and_facts_in_its_card(trained, tmp_path):
    facts = collect_facts(trained, licence=Licence(model="cc-by-4.0"))
    written = write_pipeline(facts, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "license: cc-by-4.0" in card and trained.sha256 in card
    assert written.call.strip() in card and str(tmp_path) not in card


def test_licences_need_a_card(trained, tmp_path, capsys):
    export(trained, tmp_path / "own")
    words = ["export", str(tmp_path / "own"), str(tmp_path / "out"), "--license", "mit"]
    assert main(words) == 2
    assert "--license: --to pippin writes no card" in capsys.readouterr().err
    assert main([*words, "--to", "space", "--no-text-encoder"]) == 2
    assert "a Space draws with its own text encoders" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["diffusers", "space"])
def test_code_of_imported_modules_is_refused(trained, tmp_path, capsys, monkeypatch, kind):
    export(trained, tmp_path / "own")
    monkeypatch.setenv("PIPPIN_IMPORT", "mine")
    assert main(["export", str(tmp_path / "own"), str(tmp_path / "out"), "--to", kind]) == 2
    assert "cannot hold code of imported modules (mine)" in capsys.readouterr().err

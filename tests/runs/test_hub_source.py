# SPDX-License-Identifier: Apache-2.0
"""Models of the hub as ``hf://USER/NAME``: names, refusals, files that are read, offline mode."""

import json
from dataclasses import replace

import huggingface_hub.constants
import pytest
from hub_server import COMMIT, serving_hub

from pippin.evaluation.runs.named_models import named_models
from pippin.runs.hub_source import HubSource, check_hub_name, parse_hub_source, pin_source
from pippin.runs.trained import export, load_trained_weights, trained_recipe
from pippin.system.offline import SWITCH

NAME = "ada/emoji"


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory):
    """Files of an export, and one of each kind that pippin does not read."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    export(load_trained_weights(str(finished_run)), folder)
    files = (path for path in folder.rglob("*") if path.is_file())
    content = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return content | {"README.md": b"# card", "code.py": b"raise", "pickle.bin": b"\x80"}


@pytest.fixture
def hub(monkeypatch, tmp_path, exported):
    with serving_hub(monkeypatch, tmp_path / "cache", {NAME: dict(exported)}) as hub:
        yield hub


@pytest.mark.parametrize(
    ("text", "name", "revision"),
    [
        ("hf://ada/emoji", "ada/emoji", None),
        ("hf://ada/emoji@main", "ada/emoji", "main"),
        ("hf://a/b.c_d-e@refs/pr/1", "a/b.c_d-e", "refs/pr/1"),
    ],
)
def test_names_of_the_hub(text, name, revision):
    assert parse_hub_source(text) == HubSource(name=name, revision=revision)
    assert str(parse_hub_source(text)) == text
    check_hub_name(name)


@pytest.mark.parametrize(
    "name", ["emoji", "a/b/c", "/b", "a/", "a/-b", "a/b.", "a/../b", "a/b--c", "a/b c", "a/" * 60]
)
def test_wrong_names_are_refused(name):
    with pytest.raises(ValueError, match=r"allowed: USER/NAME.* type, for example"):
        check_hub_name(name)
    with pytest.raises(ValueError, match="allowed: hf://USER/NAME"):
        parse_hub_source(f"hf://{name}")


def test_only_settings_weights_and_tables_are_downloaded(hub, tmp_path):
    trained = load_trained_weights(f"hf://{NAME}")
    assert trained.source == f"hf://{NAME}@{COMMIT}" == pin_source(f"hf://{NAME}")
    asked = {request.rpartition("/")[2] for request in hub.requests if "resolve" in request}
    assert "model.safetensors" in asked and not asked & {"code.py", "pickle.bin", "README.md"}
    names = {path.name for path in (tmp_path / "cache").rglob("*")}
    assert not names & {"code.py", "pickle.bin", "README.md"}


def test_settings_alone_are_small(hub):
    assert trained_recipe(f"hf://{NAME}") == load_trained_weights(f"hf://{NAME}").recipe
    hub.requests.clear()
    trained_recipe(f"hf://{NAME}@{COMMIT}")
    assert not any("model.safetensors" in request for request in hub.requests)


def test_damage_is_repaired_or_refused(hub):
    hub.damage += ["model.safetensors"]
    assert load_trained_weights(f"hf://{NAME}").verified
    hub.models["ada/other"] = hub.models[NAME]
    hub.damage += ["model.safetensors"] * 2
    with pytest.raises(ValueError, match="hf://ada/other was downloaded twice"):
        load_trained_weights("hf://ada/other")


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((404, "RepoNotFound"), "is not on the hub, or is private: check the name"),
        ((401, "RepoNotFound"), "for a private model log in with `hf auth login`"),
        ((403, "GatedRepo"), "needs consent to its terms: accept them at"),
        ((403, ""), "is refused by the hub"),
        ((404, "RevisionNotFound"), "has no revision"),
    ],
)
def test_refusals_say_what_to_type(hub, refusal, words):
    hub.refusals[NAME] = refusal
    with pytest.raises(ValueError, match=words) as raised:
        load_trained_weights(f"hf://{NAME}")
    assert str(raised.value).startswith(f"hf://{NAME} ")


def test_offline_and_without_a_network(hub, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv(SWITCH, "1")
        with pytest.raises(ValueError, match=f"type `hf download {NAME}` with network access"):
            load_trained_weights(f"hf://{NAME}")
    trained_recipe(f"hf://{NAME}")
    monkeypatch.setenv(SWITCH, "1")
    with pytest.raises(ValueError, match="is not complete in the hub's cache"):
        load_trained_weights(f"hf://{NAME}")  # its settings alone are there
    monkeypatch.delenv(SWITCH)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="no connection to"):
        load_trained_weights(f"hf://{NAME}")


def test_models_of_others_and_code_are_refused(hub):
    hub.models["ada/foreign"] = {"model_index.json": b"{}", "a.safetensors": b"x"}
    with pytest.raises(ValueError, match=r"was not pushed by pippin: it has no config.json"):
        load_trained_weights("hf://ada/foreign")
    code = json.dumps({"auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}}).encode()
    hub.models["ada/code"] = hub.models[NAME] | {"text_encoder/tokenizer_config.json": code}
    with pytest.raises(ValueError, match="names code to run"):
        load_trained_weights("hf://ada/code")


def test_fetch_brings_initial_weights(recipe):
    start = replace(recipe, init=replace(recipe.init, run=f"hf://{NAME}@v1"))
    (model,) = [entry for entry in named_models(start) if entry.setting == "init.run"]
    assert (model.place, model.source, model.revision) == ("hub", NAME, "v1")

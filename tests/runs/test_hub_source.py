# SPDX-License-Identifier: Apache-2.0
"""Models of the hub as ``hf://USER/NAME``: names, refusals, files that are read, offline mode."""

import json
from dataclasses import replace
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
from hub_server import COMMIT, serving_hub

from pippin.encoders.snapshots import DamagedSnapshotError
from pippin.evaluation.runs.named_models import named_models
from pippin.runs.hub_source import (
    HubSource,
    check_hub_name,
    check_revision,
    parse_hub_source,
    pin_source,
)
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


@pytest.mark.parametrize(
    "revision", ["../../x", "a/../../x", "-x", "a b", "a@b", "%2e%2e", ".hidden", "a/", ""]
)
def test_wrong_revisions_are_refused(revision):
    with pytest.raises(ValueError, match=r"allowed: letters, digits, .* type, for example"):
        check_revision(revision)
    with pytest.raises(ValueError, match="allowed: hf://USER/NAME"):
        parse_hub_source(f"hf://{NAME}@{revision}")


def test_only_settings_weights_and_tables_are_downloaded(hub, tmp_path):
    trained = load_trained_weights(f"hf://{NAME}")
    assert trained.source == f"hf://{NAME}@{COMMIT}" == pin_source(f"hf://{NAME}")
    asked = {request.rpartition("/")[2] for request in hub.requests if "resolve" in request}
    assert "model.safetensors" in asked and not asked & {"code.py", "pickle.bin", "README.md"}
    names = {path.name for path in (tmp_path / "cache").rglob("*")}
    assert not names & {"code.py", "pickle.bin", "README.md"}


def asked_files(hub):
    """Names of the files whose content the server was asked for."""
    asked = (
        r.split("/resolve/")[1] for r in hub.requests if r.startswith("GET") and "/resolve/" in r
    )
    return {request.partition("/")[2] for request in asked}


def test_files_that_no_export_has_stay_on_the_hub(hub):
    """Nor does a name lead out of the cache."""
    others = ("checkpoints/optimizer.safetensors", "notes.json", "../../../escaped.json")
    hub.models["ada/more"] = hub.models[NAME] | dict.fromkeys(others, b"{}")
    assert load_trained_weights("hf://ada/more").sha256
    assert not asked_files(hub) & set(others)


@pytest.mark.parametrize(
    "config", [b'{"model_type": "llama"}', b"[1]", b"\xff\xfe", b'{"data": {"kind": "x"}}']
)
def test_models_of_others_are_refused_before_their_weights_are_downloaded(hub, config):
    hub.models["ada/llm"] = {"config.json": config, "model.safetensors": b"x" * 1000}
    with pytest.raises(ValueError, match=r"ada/llm was not pushed by pippin: its config.json"):
        load_trained_weights("hf://ada/llm")
    assert asked_files(hub) == {"config.json"}


def test_large_settings_and_missing_weights_are_refused_before_a_download(hub, monkeypatch):
    hub.models["ada/empty"] = {
        k: v for k, v in hub.models[NAME].items() if k != "model.safetensors"
    }
    with pytest.raises(ValueError, match=r"not pushed by pippin: it has no model\.safetensors"):
        load_trained_weights("hf://ada/empty")
    assert asked_files(hub) <= {"config.json", "inputs.json"}
    hub.requests.clear()
    monkeypatch.setattr("pippin.runs.hub_source.MAX_SETTINGS_BYTES", 100)
    with pytest.raises(ValueError, match=r"its config\.json has .* kB, too much for settings"):
        load_trained_weights(f"hf://{NAME}")
    assert not asked_files(hub)


def test_paths_of_a_hub_model_are_not_used(hub, tmp_path):
    """Otherwise its author could choose folders of this machine."""
    inputs = json.loads(hub.models[NAME]["inputs.json"])
    del inputs["content_sha256"]
    inputs["places"] = {"cache.folder": str(tmp_path)}
    hub.models["ada/places"] = hub.models[NAME] | {"inputs.json": json.dumps(inputs).encode()}
    trained = load_trained_weights("hf://ada/places")
    assert trained.inputs.places == {} and str(tmp_path) != trained.located.cache.folder


def test_an_unwritable_cache_and_a_full_disk_say_what_to_type(hub, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
        with pytest.raises(ValueError, match=r"is not writable .*; set HF_HUB_CACHE to a folder"):
            load_trained_weights(f"hf://{NAME}")
    full = SimpleNamespace(disk_usage=lambda folder: SimpleNamespace(free=10))
    monkeypatch.setattr("pippin.system.downloads.shutil", full)
    with pytest.raises(ValueError, match="are free; free some, or set HF_HUB_CACHE"):
        load_trained_weights(f"hf://{NAME}")


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
    with pytest.raises(ValueError, match=r"no connection to .* the cache has a copy: type --offl"):
        load_trained_weights(f"hf://{NAME}")
    with pytest.raises(ValueError, match=r"no connection to .*; finished files stay$"):
        load_trained_weights("hf://ada/never-seen")


def test_damage_of_the_cache_is_not_called_incomplete_offline(hub, monkeypatch):
    """Downloading again would keep a damaged file that the cache already has."""

    def damaged(*_):
        raise DamagedSnapshotError("is damaged in the cache; delete that file")

    trained_recipe(f"hf://{NAME}")
    monkeypatch.setenv(SWITCH, "1")
    monkeypatch.setattr("pippin.runs.hub_source.list_cached", damaged)
    with pytest.raises(ValueError, match=rf"{NAME} is damaged in the cache; delete that file$"):
        load_trained_weights(f"hf://{NAME}")


def test_models_of_others_and_code_are_refused(hub):
    hub.models["ada/foreign"] = {"model_index.json": b"{}", "a.safetensors": b"x"}
    with pytest.raises(ValueError, match=r"was not pushed by pippin: it has no config.json"):
        load_trained_weights("hf://ada/foreign")
    code = json.dumps({"auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}}).encode()
    hub.models["ada/code"] = hub.models[NAME] | {"text_encoder/tokenizer_config.json": code}
    with pytest.raises(ValueError, match="names code to run"):
        load_trained_weights("hf://ada/code")
    damaged = {"text_encoder/tokenizer_config.json": b"{not json"}
    hub.models["ada/damaged"] = hub.models[NAME] | damaged
    with pytest.raises(ValueError, match=r"damaged: text_encoder/tokenizer_config.json is not JS"):
        load_trained_weights("hf://ada/damaged")


def test_fetch_brings_initial_weights(recipe):
    start = replace(recipe, init=replace(recipe.init, run=f"hf://{NAME}@v1"))
    (model,) = [entry for entry in named_models(start) if entry.setting == "init.run"]
    assert (model.place, model.source, model.revision) == ("hub", NAME, "v1")

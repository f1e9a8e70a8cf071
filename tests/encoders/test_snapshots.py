# SPDX-License-Identifier: Apache-2.0
"""Models of the hub's cache in offline mode; a local server stands for the hub."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import huggingface_hub.constants
import pytest

from pippin.encoders.config import AutoencoderConfig
from pippin.encoders.hub import model_folder
from pippin.encoders.hub_files import list_cached
from pippin.encoders.snapshots import DamagedSnapshotError, SnapshotError, find_snapshot
from pippin.encoders.source import find_autoencoder
from pippin.system.offline import LIBRARY_SWITCHES, SWITCH

NAME = "someone/model"
COMMIT = "0" * 40
PATTERNS = (("*.json", "*.safetensors"),)


class _Hub(BaseHTTPRequestHandler):
    """A hub without any model."""

    def do_GET(self):
        self.server.requests.append(self.path)
        self.send_error(404)

    def do_HEAD(self):
        self.do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The local server, an empty cache, and no switch."""
    for name in (SWITCH, *LIBRARY_SWITCHES):
        monkeypatch.delenv(name, raising=False)
    server = HTTPServer(("127.0.0.1", 0), _Hub)
    server.requests = []
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def cache(folder, names, revision="main"):
    """Write files into the hub's cache as a download would."""
    model = folder / "cache" / f"models--{NAME.replace('/', '--')}"
    snapshot = model / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / revision).write_text(COMMIT)
    for name in names:
        (snapshot / name).write_text('{"_class_name": "AutoencoderKL"}')
    return snapshot


def test_without_the_switch_the_hub_is_asked(hub):
    with pytest.raises(SnapshotError, match="could not be downloaded"):
        find_snapshot(NAME, ["*.json"])
    assert any(NAME in path for path in hub.requests)


@pytest.mark.parametrize("name", [SWITCH, "HF_HUB_OFFLINE"])
def test_a_model_that_the_cache_lacks_is_named_with_the_way_out(hub, monkeypatch, tmp_path, name):
    monkeypatch.setenv(name, "1")
    with pytest.raises(ValueError) as caught:
        model_folder(NAME, "text encoder")
    message = str(caught.value)
    for part in (
        f"text encoder '{NAME}' is no folder",
        f"not complete in the hub's cache {tmp_path / 'cache'}",
        f"{name}=1",
        f"`hf download {NAME}`",
        f"unset {name}",
    ):
        assert part in message
    config = AutoencoderConfig(source=NAME, revision="v1")
    with pytest.raises(ValueError, match=f"`hf download {NAME} --revision v1`.* unset {name}"):
        find_autoencoder(config)
    assert hub.requests == []


def test_a_model_of_the_cache_is_found(hub, monkeypatch, tmp_path):
    monkeypatch.setenv(SWITCH, "1")
    snapshot = cache(tmp_path, ["config.json", "model.safetensors"])
    assert model_folder(NAME, "text encoder") == snapshot
    assert hub.requests == []


def test_an_autoencoder_of_the_cache_is_found(hub, monkeypatch, tmp_path):
    monkeypatch.setenv(SWITCH, "1")
    names = ["config.json", "diffusion_pytorch_model.safetensors"]
    snapshot = cache(tmp_path, names, revision="v1")
    assert find_autoencoder(AutoencoderConfig(source=NAME, revision="v1")) == snapshot
    assert hub.requests == []


@pytest.mark.parametrize("names", [["config.json"], ["model.safetensors"]])
def test_a_part_of_a_model_is_refused(hub, monkeypatch, tmp_path, names):
    monkeypatch.setenv(SWITCH, "1")
    cache(tmp_path, names)
    for load in (
        lambda: model_folder(NAME, "text encoder"),
        lambda: find_autoencoder(AutoencoderConfig(source=NAME)),
    ):
        with pytest.raises(ValueError, match="is not complete in the hub's cache"):
            load()


def test_a_name_that_no_model_can_have_is_refused_as_such(hub, monkeypatch):
    monkeypatch.setenv(SWITCH, "1")
    with pytest.raises(SnapshotError, match=r"could not be downloaded \(.*no name"):
        find_snapshot("no name !", ["*.json"])


def test_a_damaged_index_of_weights_is_named(hub, tmp_path):
    index, shards = "model.safetensors.index.json", ["1.safetensors", "2.safetensors"]
    snapshot = cache(tmp_path, ["config.json", index, shards[0]])
    with pytest.raises(DamagedSnapshotError, match=r"is damaged in .*index\.json .*weight_map"):
        list_cached(NAME, None, PATTERNS, tmp_path / "cache")
    names = json.dumps({"weight_map": dict(zip("ab", shards, strict=True))})
    (snapshot / index).write_text(names)
    with pytest.raises(SnapshotError, match="is not complete in"):
        list_cached(NAME, None, PATTERNS, tmp_path / "cache")
    (snapshot / shards[1]).write_bytes(b"")
    listed = list_cached(NAME, None, PATTERNS, tmp_path / "cache")
    assert {file.name for file in listed.files} == {"config.json", index, *shards}

# SPDX-License-Identifier: Apache-2.0
"""``pippin fetch`` from a local server that stands for the hub, and a run offline afterwards."""

import hashlib
import json
import shutil

import huggingface_hub.constants
import pytest
from hub_server import COMMIT, serving_hub

import pippin.evaluation.features.published_files as published_files
from pippin.cli.main import main
from pippin.encoders.config import AutoencoderConfig
from pippin.encoders.hub import model_folder
from pippin.encoders.hub_files import choose_files
from pippin.encoders.source import find_autoencoder
from pippin.evaluation.features.published_files import PublishedFile
from pippin.evaluation.runs.named_models import AUTOENCODER_FILES, ENCODER_FILES
from pippin.system.downloads import check_space, download_file, size_text
from pippin.system.offline import SWITCH

AUTOENCODER, CLIP = "stabilityai/sd-vae-ft-mse", "openai/clip-vit-large-patch14"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The server, an empty cache, no switch, and two models with files that nobody reads."""
    config = json.dumps({"_class_name": "AutoencoderKL"}).encode()
    models = {
        AUTOENCODER: {"config.json": config, WEIGHTS: b"vae" * 1000, "old.ckpt": b"x" * 9000},
        CLIP: {
            "config.json": b'{"model_type": "clip"}',
            "tokenizer.json": b"{}",
            "model.safetensors": b"clip" * 1000,
            "pytorch_model.bin": b"y" * 9000,
        },
    }
    with serving_hub(monkeypatch, tmp_path / "cache", models) as hub:
        yield hub


def fetch(*words):
    return main(["fetch", "folder/mmdit-b-256-text", *words])


def test_the_list_has_sizes_and_downloads_nothing(hub, capsys, tmp_path):
    assert fetch("--list") == 1
    printed = capsys.readouterr().out
    size = f"{(len(hub.models[AUTOENCODER]['config.json']) + 3000) / 1e3:.3g} kB"
    assert f"autoencoder.source  {AUTOENCODER}  {size} in 2 files, {size} missing" in printed
    assert f"text.source.0       {CLIP}  4.02 kB in 3 files, 4.02 kB missing" in printed
    assert not any("/resolve/" in request for request in hub.requests)
    assert not (tmp_path / "cache").exists()


def test_fetched_models_are_found_offline(hub, capsys, tmp_path, monkeypatch):
    """Only the files that pippin reads; a second call downloads nothing."""
    assert fetch() == 0
    printed = capsys.readouterr().out
    assert f"{AUTOENCODER}: 2 files, 1 verified by sha256" in printed
    assert printed.endswith("type:\n  export PIPPIN_OFFLINE=1\n")
    asked = [r.rpartition("/")[2] for r in hub.requests if r.startswith("GET") and "resolve" in r]
    assert sorted(asked) == [
        "config.json",
        "config.json",
        WEIGHTS,
        "model.safetensors",
        "tokenizer.json",
    ]
    hub.requests.clear()
    assert fetch("--list") == 0
    assert "2 files, complete" in capsys.readouterr().out
    assert fetch() == 0
    assert not any("resolve" in request for request in hub.requests)
    hub.requests.clear()
    monkeypatch.setenv(SWITCH, "1")
    folder = find_autoencoder(AutoencoderConfig(source=AUTOENCODER))
    assert (folder / WEIGHTS).read_bytes() == b"vae" * 1000
    assert (model_folder(CLIP, "text encoder") / "tokenizer.json").is_file()
    capsys.readouterr()
    assert fetch("--list") == 0
    assert capsys.readouterr().out.count("complete") == 2
    assert hub.requests == []


def test_another_folder_gets_the_layout_of_the_cache(hub, capsys, tmp_path, monkeypatch):
    assert fetch("--to", str(tmp_path / "models")) == 0
    exports = f"export HF_HUB_CACHE={tmp_path / 'models'} PIPPIN_OFFLINE=1"
    assert exports in capsys.readouterr().out
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "models"))
    monkeypatch.setenv(SWITCH, "1")
    assert model_folder(CLIP, "text encoder").is_dir()


def test_a_stopped_fetch_goes_on_and_damaged_files_are_fetched_again(hub, capsys, tmp_path):
    assert fetch() == 0
    model = tmp_path / "cache" / "models--openai--clip-vit-large-patch14" / "snapshots" / COMMIT
    (model / "tokenizer.json").unlink()
    blob = (model / "model.safetensors").resolve()
    blob.write_bytes(bytes(4000))  # of the right size
    hub.requests.clear()
    capsys.readouterr()
    assert fetch() == 0
    asked = {r.rpartition("/")[2] for r in hub.requests if r.startswith("GET") and "resolve" in r}
    assert "model.safetensors" in asked and WEIGHTS not in asked
    assert (model / "model.safetensors").read_bytes() == b"clip" * 1000
    assert (model / "tokenizer.json").is_file()


def test_a_file_that_arrives_damaged_twice_is_refused(hub, capsys):
    hub.damage += ["model.safetensors"] * 2
    assert fetch() == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"missing: text.source.0 {CLIP} was downloaded twice, and model.safetensors" in said
    assert fetch() == 0


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((404, "RepoNotFound"), "is not on the hub, or is private: check the name"),
        ((401, "RepoNotFound"), "for a private model log in with `hf auth login`"),
        ((403, "GatedRepo"), "needs consent to its terms: accept them at"),
        ((404, "RevisionNotFound"), "has no revision None"),
        ((403, ""), "is refused by the hub (status 403): the token is wrong"),
        ((410, ""), "the hub answered with status 410"),
    ],
)
def test_refusals_are_said_with_what_to_do(hub, capsys, refusal, words):
    """The other model is fetched all the same."""
    hub.refusals[AUTOENCODER] = refusal
    assert fetch() == 1
    printed = capsys.readouterr()
    assert f"autoencoder.source {AUTOENCODER} {words}" in printed.err or words in printed.err
    assert printed.err.count("missing: ") == 1 and "Traceback" not in printed.err
    assert f"{CLIP}: 3 files" in printed.out


def test_no_network_and_no_space_are_said_before_anything_is_written(
    hub, capsys, tmp_path, monkeypatch
):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    assert fetch() == 2
    said = capsys.readouterr().err
    assert "not enough space" in said and "are missing and 0.1 kB are free" in said
    assert "--to FOLDER" in said
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert fetch() == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "no connection to" in said and "run this on a machine with network access" in said
    assert not (tmp_path / "cache").exists()
    check_space(tmp_path / "new" / "folder", 100)


def test_offline_it_lists_and_refuses_to_download(hub, capsys):
    assert fetch("--offline") == 2
    assert "pippin fetch downloads" in capsys.readouterr().err
    assert fetch("--offline", "--list") == 1
    printed = capsys.readouterr()
    assert "not found" in printed.out
    assert printed.err.count("is not complete in") == 2
    assert hub.requests == []


def test_a_model_without_some_of_its_weight_files_is_not_complete_offline(
    hub, capsys, tmp_path, monkeypatch
):
    """As after a download that was stopped between two files of the weights."""
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = json.dumps({"weight_map": {"a": shards[0], "b": shards[1]}}).encode()
    del hub.models[CLIP]["model.safetensors"]
    hub.models[CLIP] |= dict.fromkeys(shards, b"x" * 100)
    hub.models[CLIP]["model.safetensors.index.json"] = index
    assert fetch() == 0
    monkeypatch.setenv(SWITCH, "1")
    assert fetch("--list") == 0
    model = tmp_path / "cache" / "models--openai--clip-vit-large-patch14" / "snapshots" / COMMIT
    for name in (shards[1], "config.json"):
        content = (model / name).read_bytes()
        (model / name).unlink()
        assert fetch("--list") == 1
        assert f"{CLIP} is not complete in" in " ".join(capsys.readouterr().err.split())
        (model / name).write_bytes(content)
        assert fetch("--list") == 0


def test_files_folders_packages_and_starts_are_listed(hub, capsys, tmp_path, monkeypatch):
    """A published file is fetched to its path; what nobody can fetch is named."""
    content = b"alexnet" * 100
    digest = hashlib.sha256(content).hexdigest()
    hub.files["alexnet.pth"] = content
    known = {"alexnet.pth": PublishedFile(f"{hub.url}/alexnet.pth", digest[:8])}
    monkeypatch.setattr(published_files, "PUBLISHED_FILES", known)
    given = [
        *("--text-encoder", "minilm", "--autoencoder.source", "pippin/openmoji-f4"),
        *("--evaluation.lpips", str(tmp_path / "alexnet.pth")),
    ]
    assert fetch("--list", *given) == 1
    assert fetch(*given) == 0
    assert (tmp_path / "alexnet.pth").read_bytes() == content
    printed = capsys.readouterr().out
    assert "autoencoder.source  pippin/openmoji-f4  package, there" in printed
    assert "pippin/minilm  package, there" in printed
    given[-1] = str(tmp_path / "own.pth")
    assert fetch(*given, "--init.run", str(tmp_path / "run")) == 1
    said = capsys.readouterr().err
    assert f"missing: evaluation.lpips {tmp_path / 'own.pth'} (file)" in said
    assert "missing: init.run" in said and "copy the run, or its export" in said
    assert main(["fetch", "paper/mmdit-512-disentangled", "--list"]) == 1
    assert "a run of paper/mmdit-256-disentangled" in capsys.readouterr().out
    assert main(["fetch", "published/mmdit-sd3-d24-256", "--list"]) == 1
    said = capsys.readouterr().err
    assert (
        "sd3-vae is not on the hub" in said and "give its path with --autoencoder.source" in said
    )


def test_a_part_of_a_file_is_continued_and_other_content_is_refused(hub, tmp_path):
    content = bytes(range(256)) * 40
    hub.files["file"] = content
    path, digest = tmp_path / "file", hashlib.sha256(content).hexdigest()
    partial = tmp_path / "file.partial"
    partial.write_bytes(content[:1000])
    download_file(f"{hub.url}/file", path, digest)
    assert path.read_bytes() == content and not partial.exists()
    path.unlink()
    partial.write_bytes(b"other" * 200)
    with pytest.raises(ValueError, match=r"has the sha256 .* it was removed; type"):
        download_file(f"{hub.url}/file", path, digest)
    assert not path.exists() and not partial.exists()
    with pytest.raises(ValueError, match="status 404; fetch it elsewhere"):
        download_file(f"{hub.url}/none", path, digest)
    with pytest.raises(ValueError, match="no connection"):
        download_file("http://127.0.0.1:9/file", path, digest)


def test_the_first_kind_of_weights_that_a_model_has_is_chosen():
    names = ["config.json", "diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.bin"]
    assert choose_files(names, AUTOENCODER_FILES) == names
    assert choose_files([*names, WEIGHTS], AUTOENCODER_FILES) == ["config.json", WEIGHTS]
    assert choose_files(["config.json"], ENCODER_FILES) == []
    assert size_text(1_710_000_000) == "1.71 GB" and size_text(335_000_000) == "335 MB"

# SPDX-License-Identifier: Apache-2.0
"""``pippin push`` to a local server that stands for the hub, and ``hf://`` from it."""

import json
import shutil
from dataclasses import replace

import huggingface_hub.constants
import pytest
import torch
import yaml
from hub_server import serving_hub
from random_trained import SHAPE, save_t5, text_rule, trained_model

from pippin.cli.main import main
from pippin.data.record import DataRecord, SplitRecord
from pippin.denoisers.pixart.config import PixArtConfig
from pippin.diffusion.config import DiffusionConfig
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import TextConfig
from pippin.images.files import image_grid, read_image
from pippin.publish.upload import check_target, upload
from pippin.runs.inputs import RunInputs
from pippin.runs.trained import export, load_trained_weights
from pippin.sampling.load import load_run
from pippin.sampling.sample import draw
from pippin.system.offline import SWITCH
from pippin.training.train import train

NAME = "ada/emoji-first"
TOKEN = "hf_" + "Secret0Token1" * 3


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serving_hub(monkeypatch, tmp_path / "cache") as hub:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.chdir(tmp_path)
        yield hub


def push(run, *words, name=NAME):
    return main(["push", str(run), name, "--samples", "2", *words])


def test_a_pushed_model_is_the_trained_one(hub, finished_run, capsys, tmp_path, monkeypatch):
    """The same weights by digest, through sample, show, evaluate's refusals and offline mode."""
    assert push(finished_run, "--private") == 0
    printed = capsys.readouterr()
    commit = hub.branches[NAME]["main"]
    assert f"pushed: {hub.url}/{NAME}, commit {commit}" in printed.out
    assert hub.private == {NAME: True} and hub.tokens == {f"Bearer {TOKEN}"}
    files = hub.models[NAME]
    assert {"README.md", "config.json", "inputs.json", "model.safetensors", "samples.png"} < set(
        files
    )
    assert json.loads(files["inputs.json"])["places"] == {}
    card = files["README.md"].decode()
    assert yaml.safe_load(card.split("---")[1])["license"] == "cc-by-sa-4.0"
    expected = load_trained_weights(str(finished_run))
    pulled = load_trained_weights(f"hf://{NAME}")
    assert pulled.sha256 == expected.sha256 and pulled.recipe == expected.recipe
    assert pulled.source == f"hf://{NAME}@{commit}"
    assert pulled.as_parent()[-1]["source"] == f"hf://{NAME}@{commit}"
    assert main(["sample", f"hf://{NAME}", "--seeds", "0:2", "--steps", "2"]) == 0
    assert (tmp_path / "samples" / NAME / "grid.png").is_file()
    monkeypatch.setenv(SWITCH, "1")
    hub.requests.clear()
    assert load_run(f"hf://{NAME}").sha256 == expected.sha256
    assert main(["show", f"hf://{NAME}@{commit}"]) == 0
    assert hub.requests == []


def test_a_revision_stays_when_main_moves(hub, finished_run, capsys):
    assert push(finished_run) == 0
    first = hub.branches[NAME]["main"]
    assert push(finished_run) == 2
    assert f"{NAME} is taken: its branch main holds" in capsys.readouterr().err
    assert push(finished_run, "--weights", "raw", "--update") == 0
    assert push(finished_run, "--weights", "raw", "--revision", "raw") == 0
    assert set(hub.branches[NAME]) == {"main", "raw"}
    assert load_trained_weights(f"hf://{NAME}@{first}").weights == "ema"
    assert load_trained_weights(f"hf://{NAME}").weights == "raw"
    assert load_trained_weights(f"hf://{NAME}@raw").weights == "raw"
    with pytest.raises(ValueError, match=r"has no revision 'none': see .* its branches and tags"):
        load_trained_weights(f"hf://{NAME}@none")


def test_stale_encoders_of_an_earlier_push_are_removed(hub, finished_run):
    """Otherwise sampling would take them for the model's own."""
    assert push(finished_run) == 0
    own = {"notes.md": b"mine", "tokenizer-notes.md": b"mine"}
    stale = own | {"text_encoder/config.json": b"{}", "tokenizer_2/tokenizer.json": b"{}"}
    hub.commit(NAME, "main", hub.models[NAME] | stale)
    assert push(finished_run, "--update") == 0
    assert not [name for name in hub.models[NAME] if name.startswith(("text_enc", "tokenizer_"))]
    assert own.items() <= hub.models[NAME].items()


def test_a_push_between_two_steps_of_another_is_kept(hub, finished_run, tmp_path):
    """The commit is made only on the state that was looked at."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    upload(folder, check_target(NAME, None, update=False), private=False)
    seen = check_target(NAME, None, update=True)
    hub.commit(NAME, "main", {"theirs.txt": b"new"})
    with pytest.raises(ValueError, match=r"was created or changed meanwhile .status 412.: type"):
        upload(folder, seen, private=False)
    assert hub.models[NAME] == {"theirs.txt": b"new"}


def test_a_failed_upload_continues(hub, tmp_path):
    """Neither a model without files nor a branch of main's commit is taken."""
    (tmp_path / "config.json").write_text("{}")
    hub.refusals["commit/main"] = (500, "")
    with pytest.raises(ValueError, match="status 500"):
        upload(tmp_path, check_target(NAME, None, update=False), private=True)
    hub.refusals.clear()
    upload(tmp_path, check_target(NAME, None, update=False), private=True)
    hub.refusals["commit/v2"] = (500, "")
    with pytest.raises(ValueError, match="status 500"):
        upload(tmp_path, check_target(NAME, "v2", update=False), private=True)
    hub.refusals.clear()
    (tmp_path / "more.json").write_text("{}")
    upload(tmp_path, check_target(NAME, "v2", update=False), private=True)
    with pytest.raises(ValueError, match="is taken: its branch v2 holds"):
        check_target(NAME, "v2", update=False)
    assert "more.json" not in hub.models[NAME]


def save_text_run(folder):
    """Export a text model whose encoder has a relative path, with the record of its place."""
    save_t5(folder / "encoders" / "t5")
    trained = trained_model(
        folder,
        PixArtConfig(**SHAPE, base_grid=4),
        text_rule(token_features=32, num_tokens=6, projection="mlp", padding="native"),
        DiffusionConfig(schedule="ddpm"),
        TextConfig(source=("encoders/t5",)),
    )
    split = SplitRecord(images=8, per_class=(8,), content="0" * 16)
    data = DataRecord(
        kind="none",
        class_names=("all",),
        caption_kinds=("caption",),
        layout=None,
        decoder="none",
        source_hash="0" * 16,
        probe_side=16,
        train=split,
        held_out=split,
    )
    places = {"text.source.0": str(folder / "encoders" / "t5")}
    fingerprint = Autoencoder.from_folder(folder / "kl").fingerprint
    inputs = RunInputs(data=data, autoencoder=fingerprint, places=places)
    export(replace(trained, inputs=inputs), folder / "run", text_encoders=False)
    return folder / "run"


def test_a_text_model_is_pushed_with_its_encoder(hub, capsys, tmp_path, monkeypatch):
    """From a folder in which its encoder's relative path leads nowhere, and without its paths."""
    run, prompt = save_text_run(tmp_path), "red \N{RED APPLE} apple"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    options = ("--license", "cc-by-4.0", "--prompts", prompt, "blue car")
    assert push(run, *options) == 0
    assert "the folder includes kl, encoders/t5: check" in capsys.readouterr().err
    files = hub.models[NAME]
    assert {"text_encoder/model.safetensors", "text_encoder/tokenizer.json"} < set(files)
    assert json.loads(files["inputs.json"])["places"] == {}
    card = files["README.md"].decode()
    assert str(tmp_path) not in card
    assert yaml.safe_load(card.split("---")[1])["pipeline_tag"] == "text-to-image"
    assert f'images = draw(run, ["{prompt}"] * 4' in card and f"| 0 | {prompt} |" in card
    shutil.rmtree(tmp_path / "encoders")
    images = draw(load_run(f"hf://{NAME}"), [prompt, "blue car"], range(2))
    (tmp_path / "grid.png").write_bytes(files["samples.png"])
    assert torch.equal(image_grid(images), read_image(tmp_path / "grid.png"))


def test_the_hub_may_say_why_it_refuses(hub, finished_run, capsys):
    hub.refusals["commit/main"] = (403, "")
    hub.reason = f"Storage limit reached, {TOKEN} \x1b[31m"
    assert push(finished_run, "--samples", "0") == 2
    said = capsys.readouterr().err
    assert "the hub says: Storage limit reached" in said and TOKEN not in said
    assert "\\x1b[31m" in said  # not the character that acts on a terminal


def test_a_dry_run_asks_nothing_and_shows_card_and_files(hub, finished_run, capsys, tmp_path):
    out = tmp_path / "out"
    assert push(finished_run, "--dry-run", "--offline", "--out", str(out)) == 0
    printed = capsys.readouterr().out
    assert "library_name: pippin" in printed and "model.safetensors" in printed
    assert f"public model {NAME}, branch main; nothing was sent; the files are in {out}" in printed
    assert hub.requests == [] and (out / "samples.png").is_file()


def test_a_licence_is_never_chosen(hub, finished_run, capsys, monkeypatch):
    assert push(finished_run, "--license", "CC BY") == 2
    assert "no identifier of the hub" in capsys.readouterr().err
    assert push(finished_run, "--license", "other") == 2
    assert "belong together" in capsys.readouterr().err
    assert push(finished_run, "--license", "other", "--license-link", "my terms") == 2
    assert "--license-link 'my terms' is no address" in capsys.readouterr().err
    monkeypatch.setattr("pippin.publish.facts.known_licence", lambda trained: None)
    assert push(finished_run) == 2
    assert "pippin does not choose one: type --license ID" in capsys.readouterr().err
    assert push(finished_run, "--license", "mit", "--dry-run", "--samples", "0") == 0
    assert "license: mit" in capsys.readouterr().out
    assert hub.requests == []


@pytest.mark.parametrize(
    ("place", "refusal", "words"),
    [
        (NAME, (401, ""), "the hub refuses the token (status 401): it is wrong or has expired"),
        (NAME, (403, ""), "may not write to ada/emoji-first (status 403): make one with write"),
        (NAME, (500, ""), "could not be pushed: the hub answered with status 500"),
        ("repos/create", (401, ""), "the hub refuses the token"),
        ("repos/create", (403, ""), "if ada is not one"),
        ("repos/create", (404, "RepoNotFound"), "check that ada is your user name"),
        ("repos/create", (409, ""), "was created or changed meanwhile (status 409)"),
        ("preupload", (403, ""), "may not write to"),
        ("commit/main", (409, ""), "type the command again, with --update"),
    ],
)
def test_refusals_say_what_to_type_and_never_show_the_token(
    hub, finished_run, capsys, place, refusal, words
):
    hub.refusals[place] = refusal
    assert push(finished_run, "--samples", "0") == 2
    printed = capsys.readouterr()
    assert words in " ".join(printed.err.split())
    assert TOKEN not in printed.out + printed.err and "Traceback" not in printed.err


def test_no_token_no_network_offline_and_wrong_names(hub, finished_run, capsys, monkeypatch):
    assert push(finished_run, name="emoji") == 2
    assert "allowed: USER/NAME" in capsys.readouterr().err
    assert push(finished_run, "--revision", "a/../b") == 2
    assert "is no revision of the hub" in capsys.readouterr().err
    assert push(finished_run, "--offline") == 2
    assert "pippin push uploads: type it where there is a network" in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", "tökén-of-mine")
    assert push(finished_run) == 2
    said = capsys.readouterr().err
    assert "has characters that no token has" in said and "tökén" not in said
    monkeypatch.delenv("HF_TOKEN")
    assert push(finished_run) == 2
    assert "no token of the hub is on this machine: log in with" in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert push(finished_run) == 2
    said = capsys.readouterr().err
    assert "could not be pushed: no connection to" in said and TOKEN not in said
    assert hub.requests == []


def test_measures_of_the_pushed_weights_are_in_the_card(hub, finished_run, capsys, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    assert main(["evaluate", str(run), "--parts", "held-out"]) == 0
    capsys.readouterr()
    assert push(run, "--dry-run", "--samples", "0") == 0
    card = capsys.readouterr().out
    measures = [line for line in card.splitlines() if line.startswith("| held-out")]
    assert measures and all(" to " in line and line.endswith("` |") for line in measures)
    assert str(tmp_path) not in card
    assert push(run, "--dry-run", "--samples", "0", "--weights", "raw") == 0
    assert "No measures of these weights are recorded" in capsys.readouterr().out


def test_hub_models_are_evaluated_and_trained_further(hub, finished_run, recipe, capsys, tmp_path):
    assert push(finished_run, "--samples", "0") == 0
    commit = hub.branches[NAME]["main"]
    assert main(["evaluate", f"hf://{NAME}@main", "--parts", "held-out"]) == 0
    assert (tmp_path / "evaluated" / NAME / commit[:8] / "results.jsonl").is_file()
    start = replace(recipe.init, run=f"hf://{NAME}")
    short = replace(recipe.train, images=16, validate_every=0, preview_every=0)
    train(replace(recipe, init=start, train=short), tmp_path / "next")
    parent = load_trained_weights(str(tmp_path / "next")).lineage[-1]
    assert parent["source"] == f"hf://{NAME}@{commit}"
    assert parent["sha256"] == load_trained_weights(str(finished_run)).sha256


def test_prompts_are_for_text_models(hub, finished_run, capsys):
    assert push(finished_run, "--dry-run", "--prompts", "a cat") == 2
    assert "this model reads no text: leave --prompts out" in capsys.readouterr().err

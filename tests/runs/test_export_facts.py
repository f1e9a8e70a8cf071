# SPDX-License-Identifier: Apache-2.0
"""An exported model is what was exported, or one message that names its file."""

import json
import random
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pippin.cli.main import main
from pippin.runs.exports import WEIGHTS_FILE, export_metadata, read_facts
from pippin.runs.trained import export, load_trained_weights
from pippin.sampling.load import load_run

PARENT = {"source": "runs/a", "weights": "ema", "images_seen": 3, "sha256": "0" * 64}


@pytest.fixture(scope="module")
def trained(finished_run):
    return load_trained_weights(str(finished_run))


@pytest.fixture
def model(trained, tmp_path):
    export(replace(trained, lineage=(PARENT,)), tmp_path / "model")
    return tmp_path / "model"


def with_facts(folder, change):
    """Write the facts of an export again with a valid checksum, as a faulty program would."""
    path = folder / WEIGHTS_FILE
    facts = change(read_facts(path))
    save_file(load_file(path), path, metadata=export_metadata(facts))
    return path


def test_the_header_says_which_weights_these_are(trained, model):
    facts = read_facts(model / WEIGHTS_FILE)
    assert facts == {
        "weights": "ema",
        "images_seen": 64,
        "lineage": [PARENT],
        "average": "ema-share-0.05",
        "sha256": trained.sha256,
    }
    again = load_trained_weights(str(model))
    assert again.verified and again.sha256 == trained.sha256
    assert again.as_parent()[-1]["average"] == "ema-share-0.05"
    assert again.description == "ema weights (ema-share-0.05) at 64 images"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_precision_has_the_digest_of_what_is_loaded(trained, tmp_path, dtype):
    export(trained, tmp_path / "model", dtype)
    again = load_trained_weights(str(tmp_path / "model"))
    assert again.verified
    assert (again.sha256 == trained.sha256) == (dtype == torch.float32)


@pytest.mark.parametrize("place", [0.001, 0.3, 0.999])
def test_a_flipped_bit_in_the_weights_is_found(model, place):
    path = model / WEIGHTS_FILE
    content = bytearray(path.read_bytes())
    head = 8 + int.from_bytes(content[:8], "little")
    content[head + int(place * (len(content) - head))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged .*sha256 of its weights"):
        load_trained_weights(str(model))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(({"images_seen": wrong}, "images_seen must be a whole number") for wrong in (
            -1, "64", 6.4, True, None, []
        )),
        *(({"weights": wrong}, "weights must be raw, ema or") for wrong in (
            "best", "", None, 3, ["ema"], "ema-share-", "raw\n"
        )),
        *(({"lineage": wrong}, "lineage must be a list of") for wrong in (
            3, {}, "runs/a", None, [3], [{}], [PARENT | {"images_seen": -3}],
            [PARENT | {"weights": 3}], [PARENT | {"source": None}], [[PARENT]],
        )),
        ({"average": 3}, "average must be text"),
        ({"images_seen": float("nan")}, "NaN is not a JSON number"),
        ({"sha256": 3}, "sha256 must be 64 hexadecimal digits"),
        ({"sha256": ""}, "sha256 must be 64 hexadecimal digits"),
        ({"sha256": "0" * 64}, "sha256 of its weights is not the recorded"),
    ],
)  # fmt: skip
def test_facts_of_a_wrong_kind_are_named(model, change, message, capsys):
    with_facts(model, lambda facts: facts | change)
    with pytest.raises(ValueError, match=rf"model\.safetensors is damaged .*{message}"):
        load_trained_weights(str(model))
    assert main(["sample", str(model)]) == 2
    said = capsys.readouterr().err
    assert "model.safetensors is damaged" in said and "Traceback" not in said


@pytest.mark.parametrize("name", ["weights", "images_seen", "lineage"])
def test_a_fact_that_is_missing_is_named(model, name):
    with_facts(model, lambda facts: {k: v for k, v in facts.items() if k != name})
    with pytest.raises(ValueError, match=f"its header does not say {name}"):
        load_trained_weights(str(model))


@pytest.mark.parametrize(
    "text",
    ["", "{", "3", "[]", "null", '"x"', "{}", "[" * 100_000, '{"images_seen": NaN}'],
)
def test_facts_that_are_no_object_are_refused(model, text):
    path = model / WEIGHTS_FILE
    save_file(load_file(path), path, metadata={"pippin": text})
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        load_trained_weights(str(model))


def test_a_changed_fact_is_found_by_the_checksum(model):
    path = model / WEIGHTS_FILE
    with safe_open(path, framework="pt") as file:
        text = file.metadata()["pippin"]
    for changed in (text.replace("64", "94", 1), text.replace("runs/a", "runs/b")):
        assert changed != text
        save_file(load_file(path), path, metadata={"pippin": changed})
        with pytest.raises(ValueError, match="content_sha256"):
            load_trained_weights(str(model))
    facts = json.loads(text)
    del facts["content_sha256"]
    save_file(load_file(path), path, metadata={"pippin": json.dumps(facts)})
    with pytest.raises(ValueError, match="content_sha256"):
        load_trained_weights(str(model))


def test_any_damaged_byte_of_the_header_is_one_message_or_changes_nothing(model, trained):
    path = model / WEIGHTS_FILE
    whole = path.read_bytes()
    head = 8 + int.from_bytes(whole[:8], "little")
    draws, refused = random.Random(0), 0
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(draws.choice((1, 1, 4))):
            content[draws.randrange(head)] = draws.randrange(256)
        path.write_bytes(content)
        try:
            again = load_trained_weights(str(model))
        except ValueError as error:
            assert "model.safetensors is damaged" in str(error)
            refused += 1
        else:  # the same letters, or blanks
            assert (again.sha256, again.images_seen) == (trained.sha256, 64)
    assert refused > 100


def test_exports_of_earlier_versions_are_read_and_said_to_have_no_digest(model, trained):
    path = model / WEIGHTS_FILE
    old = {"weights": "ema", "images_seen": 64, "lineage": [PARENT]}
    save_file(load_file(path), path, metadata={"format": "pt", "pippin": json.dumps(old)})
    again = load_trained_weights(str(model))
    assert not again.verified and again.sha256 == trained.sha256
    assert again.average == trained.average == "ema-share-0.05"  # as its recipe says
    console = Console(record=True, width=200)
    load_run(model, console=console)
    said = console.export_text()
    assert "no checksum: " in said and f"pippin export {model}" in " ".join(said.split())

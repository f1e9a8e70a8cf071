# SPDX-License-Identifier: Apache-2.0
"""Model cards: metadata, measures of exactly these weights, and text of others without effect."""

from dataclasses import replace

import pytest
import yaml

from pippin.data.config import ImagesConfig
from pippin.runs.trained import load_trained_weights
from pippin.sharing.card import render_card
from pippin.sharing.facts import CardFacts, Licence, known_licence, measures_of, named_paths
from pippin.studies.results import Row

HOSTILE = "<img src=x onerror=alert(1)> | `code` **bold**\n# heading ``` [a](javascript:1)"


@pytest.fixture(scope="module")
def trained(finished_run):
    return load_trained_weights(str(finished_run))


def facts(trained, **changes):
    values = {
        "name": "ada/emoji",
        "licence": Licence(model="cc-by-4.0"),
        "trained": trained,
        "num_parameters": 2_350_000,
        "dtype": "float32",
    }
    return CardFacts(**values | changes)


def row(trained, **changes):
    values = {
        "study": "",
        "arm": "run",
        "seed": 0,
        "metric": "held-out loss",
        "value": 0.25,
        "low": 0.2,
        "high": 0.3,
        "interval_over": "images",
        "n": 24,
        "unit": "",
        "better": "lower",
        "protocol": {
            "sampling.steps": 3,
            "model.sha256": trained.sha256,
            "x.path": "/a/secret",
            "text.source": ["/b/secret"],
        },
        "fingerprint": "0123456789abcdef",
        "comparable": "0123456789abcdef",
    }
    return Row(**values | changes)


def metadata(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_the_metadata_say_library_licence_and_base_model(trained):
    parent = {"source": "hf://bo/base@" + "1" * 40, "weights": "ema", "images_seen": 500}
    values = metadata(render_card(facts(replace(trained, lineage=(parent,)))))
    assert values["library_name"] == "pippin" and values["license"] == "cc-by-4.0"
    assert values["base_model"] == ["bo/base"]
    assert {"pippin", "class-conditional", "mmdit"} <= set(values["tags"])
    licence = Licence(model="other", link="https://example.org/terms")
    values = metadata(render_card(facts(trained, licence=licence)))
    assert values["license_link"] == "https://example.org/terms"
    assert "base_model" not in values


def test_measures_have_interval_and_protocol(trained):
    card = render_card(facts(trained, measures=(row(trained),)))
    (line,) = [line for line in card.splitlines() if "0.2 to 0.3 (images)" in line]
    assert "| 24 | lower | `01234567` |" in line
    assert '"sampling.steps": 3' in card and "/secret" not in card
    assert "rounded to" not in card
    assert "rounded to float16" in render_card(
        facts(trained, measures=(row(trained),), dtype="float16")
    )


def test_measures_of_other_weights_are_left_out(trained, finished_run, tmp_path, monkeypatch):
    rows = [
        row(trained),
        row(trained, protocol={"model.sha256": "0" * 64}),
        row(trained, protocol={}),
    ]
    (tmp_path / "results.jsonl").touch()

    class Source:
        class results:  # noqa: N801
            pass

    Source.results.rows = rows
    monkeypatch.setattr("pippin.sharing.facts.open_source", lambda folder: Source)
    assert measures_of(trained, tmp_path) == (rows[0],)
    assert measures_of(trained, tmp_path / "absent") == ()
    assert "No measures of these weights" in render_card(facts(trained))


def test_only_share_alike_drawings_decide_a_licence(trained):
    assert known_licence(trained) == "cc-by-sa-4.0"
    images = replace(trained.recipe, data=ImagesConfig(path="photos"))
    assert known_licence(replace(trained, recipe=images)) is None
    foreign = {"source": "hf://bo/base@main", "weights": "ema", "images_seen": 0}
    assert known_licence(replace(trained, lineage=(foreign,))) is None
    card = render_card(facts(replace(trained, recipe=images)))
    assert "Licence of the images: not stated by the author." in card


def test_text_of_others_has_no_effect(trained):
    data = replace(
        trained.inputs.data, class_names=(HOSTILE, *trained.inputs.data.class_names[1:])
    )
    inputs = replace(trained.inputs, data=data)
    samples = ({"seed": 0, "class": HOSTILE},)
    card = render_card(facts(replace(trained, inputs=inputs), samples=samples))
    outside = card.split("```")[::2]  # blocks of code show everything as it is
    assert not any("<img" in part or "# heading" in part.splitlines() for part in outside)
    assert "\\| \\`code\\` \\*\\*bold\\*\\*" in card


def test_the_examples_load_the_pinned_branch(trained):
    card = render_card(facts(trained, revision="v2"))
    assert "pippin sample hf://ada/emoji@v2 --labels" in card
    assert 'run = load_run("hf://ada/emoji@v2")' in card


def test_paths_of_the_author_are_named_to_the_author_alone(trained):
    parent = {"source": "/home-of-ada/runs/base", "weights": "ema", "images_seen": 500}
    other = replace(trained, lineage=(parent,))
    assert "home-of-ada" not in render_card(facts(other))
    assert "base (ema weights, 500 images)" in render_card(facts(other))
    paths = named_paths(other)
    assert paths["model.safetensors: ancestor 1"] == parent["source"]
    assert paths["config.json: autoencoder.source"] == trained.recipe.autoencoder.source

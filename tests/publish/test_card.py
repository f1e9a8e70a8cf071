# SPDX-License-Identifier: Apache-2.0
"""Cards: metadata, measures of exactly these weights, and text of others without effect."""

import ast
from dataclasses import replace

import pytest
import yaml

from pippin.conditioning.config import TextSemantic
from pippin.data.config import ImagesConfig, NoDataConfig, OpenMojiConfig
from pippin.encoders.config import TextConfig
from pippin.publish.card import CardForm, render_card
from pippin.publish.facts import CardFacts, Licence, known_licence, measures_of, public_notes
from pippin.publish.hub_folder import ShareRequest, hub_form
from pippin.runs.trained import load_trained_weights
from pippin.studies.results import Row

HOSTILE = "<img src=x onerror=alert(1)> | `code` **bold**\n# heading ``` [a](javascript:1)"


@pytest.fixture(scope="module")
def trained(finished_run):
    return load_trained_weights(str(finished_run))


def facts(trained, **changes):
    return CardFacts(**{"licence": Licence(model="cc-by-4.0"), "trained": trained} | changes)


def hub_card(facts, revision=None):
    return render_card(facts, hub_form(facts, ShareRequest(name="ada/emoji", revision=revision)))


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
            "text.source": ["/b/secret", "bert"],
            "nested": {"file": {"place": "file:///c/secret"}},
        },
        "fingerprint": "0123456789abcdef",
        "comparable": "0123456789abcdef",
    }
    return Row(**values | changes)


def metadata(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_the_metadata_say_library_licence_and_base_model(trained):
    parent = {"source": "hf://bo/base@" + "1" * 40, "weights": "ema", "images_seen": 500}
    values = metadata(hub_card(facts(replace(trained, lineage=(parent,)))))
    assert values["library_name"] == "pippin" and values["license"] == "cc-by-4.0"
    assert values["base_model"] == ["bo/base"]
    assert {"pippin", "class-conditional", "mmdit"} <= set(values["tags"])
    licence = Licence(model="other", link="https://example.org/terms")
    values = metadata(hub_card(facts(trained, licence=licence)))
    assert values["license_link"] == "https://example.org/terms"
    assert "base_model" not in values


def test_measures_have_interval_and_protocol(trained):
    card = hub_card(facts(trained, measures=(row(trained),)))
    (line,) = [line for line in card.splitlines() if "0.2 to 0.3 (images)" in line]
    assert "| 24 | lower | `01234567` |" in line and "| these weights |" in line
    assert '"sampling.steps": 3' in card and "/secret" not in card
    assert "rounded to" not in card
    assert "rounded to float16" in hub_card(
        facts(trained, measures=(row(trained),), dtype="float16")
    )


def test_measures_of_other_weights_are_left_out(trained, tmp_path, monkeypatch):
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
    monkeypatch.setattr("pippin.publish.facts.open_source", lambda folder: Source)
    assert measures_of(replace(trained, source=str(tmp_path))) == (rows[0],)
    assert measures_of(replace(trained, source=str(tmp_path / "absent"))) == ()
    assert "No measures of these weights" in hub_card(facts(trained))


def test_only_share_alike_drawings_decide_a_licence(trained):
    assert known_licence(trained) == "cc-by-sa-4.0"
    twemoji = replace(trained.recipe, data=OpenMojiConfig(art=("twemoji",)))
    assert known_licence(replace(trained, recipe=twemoji)) is None  # CC BY 4.0
    images = replace(trained.recipe, data=ImagesConfig(path="photos"))
    assert known_licence(replace(trained, recipe=images)) is None
    foreign = {"source": "hf://bo/base@main", "weights": "ema", "images_seen": 0}
    assert known_licence(replace(trained, lineage=(foreign,))) is None
    card = hub_card(facts(replace(trained, recipe=images)))
    assert "Licence of the images: not stated by the author." in card


def test_text_of_others_has_no_effect(trained):
    data = replace(
        trained.inputs.data, class_names=(HOSTILE, *trained.inputs.data.class_names[1:])
    )
    inputs = replace(trained.inputs, data=data)
    samples = ({"seed": 0, "class": HOSTILE},)
    card = hub_card(facts(replace(trained, inputs=inputs), samples=samples))
    outside = card.split("```")[::2]  # blocks of code show everything as it is
    assert not any("<img" in part or "# heading" in part.splitlines() for part in outside)
    assert "\\| \\`code\\` \\*\\*bold\\*\\*" in card


def test_the_examples_load_the_pinned_branch(trained):
    card = hub_card(facts(trained), "v2")
    assert "pippin sample hf://ada/emoji@v2 --labels" in card
    assert 'run = load_run("hf://ada/emoji@v2")' in card


def test_paths_of_the_author_are_named_to_the_author_alone(trained):
    parent = {"source": "/home-of-ada/runs/base", "weights": "ema", "images_seen": 500}
    other = replace(trained, lineage=(parent,))
    assert "home-of-ada" not in hub_card(facts(other))
    assert "base (ema weights, 500 images)" in hub_card(facts(other))
    notes = public_notes(facts(other))
    assert any(f"model.safetensors: ancestor 1 {parent['source']}" in note for note in notes)
    source = trained.recipe.autoencoder.source
    assert any(f"config.json: autoencoder.source {source}" in note for note in notes)
    inner = public_notes(facts(other), "model/")
    assert any(f"model/config.json: autoencoder.source {source}" in note for note in inner)


def test_a_licence_against_share_alike_is_noted(trained):
    notes = public_notes(facts(trained, licence=Licence(model="mit")))
    assert any("share-alike; the model card states mit" in note for note in notes)
    parent = {"source": "runs/base", "weights": "ema", "images_seen": 500}
    tuned = replace(trained, lineage=(parent,))
    notes = public_notes(facts(tuned, licence=Licence(model="mit")))
    assert any("share-alike; the model card states mit" in note for note in notes)
    kept = public_notes(facts(trained, licence=Licence(model="cc-by-sa-4.0")))
    assert not any("share-alike" in note for note in kept)


def test_examples_with_emoji_are_valid_python(trained):
    semantic = TextSemantic(token_features=8)
    rules = replace(trained.recipe.conditioning, semantic=semantic, rules={"text": "attention"})
    text = replace(trained, recipe=replace(trained.recipe, conditioning=rules))
    prompt = 'a "red" \N{RED APPLE} \\ ```'
    card = hub_card(facts(text, samples=({"seed": 0, "prompt": prompt},)))
    (line,) = [line for line in card.splitlines() if line.startswith("images = draw(")]
    (call,) = [n for n in ast.walk(ast.parse(line)) if isinstance(n, ast.BinOp)]
    assert ast.literal_eval(call.left) == [prompt]


def test_all_forms_state_the_same_facts(trained):
    """A pipeline and a Space have the sections of a pushed model, from one generator."""
    known = facts(trained, measures=(row(trained),))
    space = CardForm(title="apples", header={"sdk": "gradio"}, is_model=False, use=("Open it.",))
    pipeline = CardForm(title="apples", header={"library_name": "diffusers"}, limits=("Slow.",))
    cards = [hub_card(known), render_card(known, space), render_card(known, pipeline)]
    for title in ("Data", "Training", "Measures", "Licence", "Citation"):
        parts = [card.split(f"## {title}\n")[1].split("\n## ")[0] for card in cards]
        assert parts[0] == parts[1] == parts[2]
    assert metadata(cards[1])["license"] == "cc-by-4.0" and "pipeline_tag" not in metadata(
        cards[1]
    )
    assert "- Slow." in cards[2] and metadata(cards[2])["pipeline_tag"]


def test_cards_of_converted_weights_state_no_training(trained):
    """Their recipe takes batch size and seed from the nearest published one."""
    recipe = replace(trained.recipe, data=NoDataConfig(resolution=32, num_classes=3))
    card = hub_card(facts(replace(trained, recipe=recipe, inputs=None)))
    assert "Converted with pippin." in card and "| base model | not recorded |" in card
    assert not any(words in card for words in ("batch size", "training seed", "| recipe |"))
    assert "Trained with pippin." in hub_card(facts(trained))


def test_an_unknown_licence_is_said(trained):
    card = render_card(facts(trained, licence=Licence()), CardForm(title="apples"))
    assert "license" not in metadata(card) and "Weights: not stated by the author." in card


def test_encoders_outside_the_folder_are_limits(trained):
    semantic = TextSemantic(token_features=8)
    rules = replace(trained.recipe.conditioning, semantic=semantic, rules={"text": "attention"})
    sources = TextConfig(source=("/home-of-ada/my_clip", "google/t5", "pippin/minilm"))
    recipe = replace(trained.recipe, conditioning=rules, text=sources)
    card = hub_card(facts(replace(trained, recipe=recipe), bundled=("google/t5",)))
    assert "needs text encoders that the folder does not include: my\\_clip.\n" in card
    assert "home-of-ada" not in card

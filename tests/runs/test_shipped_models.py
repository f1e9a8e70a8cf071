# SPDX-License-Identifier: Apache-2.0
"""The models inside the package: small, alike but for their conditioning, and able to draw."""

import json
from importlib.resources import files

import pytest
from rich.console import Console

from pippin.cli.sample import TEXT_MODEL
from pippin.config import difference
from pippin.runs.trained import load_trained_weights, shipped_models, trained_recipe
from pippin.sampling.load import load_run
from pippin.sampling.sample import draw
from pippin.studies.shipped.table import DEMO_MODELS, get_study
from pippin.system.tensors import DIGESTS_FILE

QUIET = Console(quiet=True)


def test_the_demo_goes_on_from_models_that_are_there():
    assert set(DEMO_MODELS.values()) <= set(shipped_models())


@pytest.mark.parametrize("name", shipped_models())
def test_they_are_small_and_have_a_card(name):
    folder = files("pippin") / "models" / name.removeprefix("pippin/")
    assert sum(len(file.read_bytes()) for file in folder.iterdir()) <= 8_000_000
    assert "CC BY-SA 4.0" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", shipped_models())
def test_their_weights_are_those_of_the_recorded_digest(name, monkeypatch):
    assert load_trained_weights(name).verified
    monkeypatch.setattr("pippin.runs.trained.recorded_digest", lambda folder: "0" * 64)
    with pytest.raises(ValueError, match="sha256 of its weights is not the recorded one"):
        load_trained_weights(name)


def test_every_model_has_a_digest_and_no_other():
    digests = json.loads((files("pippin") / "models" / DIGESTS_FILE).read_text(encoding="utf-8"))
    assert [f"pippin/{name}" for name in sorted(digests)] == shipped_models()


def test_they_differ_in_their_conditioning_only():
    found = difference(*(trained_recipe(name) for name in DEMO_MODELS.values()))
    assert set(found) == {
        "conditioning.rules",
        "conditioning.control.low_gate.kind",
        "conditioning.control.low_gate.alpha",
    }
    first, second = (load_trained_weights(name) for name in DEMO_MODELS.values())
    assert first.images_seen == second.images_seen
    assert first.lineage == second.lineage == ()


@pytest.mark.parametrize("arm", DEMO_MODELS)
def test_the_demo_trains_what_the_model_is(arm):
    """An arm has its own model's conditioning, denoiser and diffusion."""
    recipe, model = get_study("demo").arms()[arm], trained_recipe(DEMO_MODELS[arm])
    assert recipe.init.run == DEMO_MODELS[arm]
    for part in ("conditioning", "denoiser", "diffusion", "autoencoder"):
        assert getattr(recipe, part) == getattr(model, part), part


@pytest.mark.parametrize("name", DEMO_MODELS.values())
def test_they_draw_flags(name):
    """Coloured in the middle, white above."""
    run = load_run(name, console=QUIET)
    flags = run.label_id("flags")
    images = draw(run, [flags] * 8, range(8), run.recipe.sampling).double()
    centre = images[:, :, 28:36, 28:36].mean((2, 3))
    assert float((centre.amax(1) - centre.amin(1)).mean()) > 30  # coloured
    assert float(images[:, :, :6].mean()) > 235


def test_the_text_model_responds_to_colours():
    """The requested one of a circle's two colours."""
    run = load_run(TEXT_MODEL, console=QUIET)
    warmth = {}
    for colour in ("red", "blue"):
        prompts = [f"{colour} circle, twemoji"] * 4
        images = draw(run, prompts, range(4), run.recipe.sampling).double()
        centre = images[:, :, 24:40, 24:40].mean((0, 2, 3))
        warmth[colour] = float(centre[0] - centre[2])
    assert warmth["red"] > 30
    assert warmth["blue"] < -30

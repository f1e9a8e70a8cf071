# SPDX-License-Identifier: Apache-2.0
"""``pippin show``: a recipe and its cost, without data or weights."""

import pytest

from pippin.cli.main import main
from pippin.cli.show import latent_shape_of
from pippin.recipes.table import get_recipe


def shown(capsys, *arguments):
    assert main(["show", *arguments]) == 0
    text = capsys.readouterr().out
    rows = (line.split("│")[1:3] for line in text.splitlines() if line.startswith("│"))
    return {left.strip(): right.strip() for left, right in rows}


def test_what_a_published_recipe_is_and_costs(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    rows = shown(capsys, "published/dit-xl-256")
    assert rows["schedule"] == "ddpm"
    assert rows["prediction"] == "eps"
    assert rows["semantics"] == "label by modulation"
    assert rows["parameters"] == "674.83 M"
    assert rows["forward"].startswith("118.6 GMACs")
    assert rows["latent"] == "4 x 32 x 32"


def test_settings_and_shape_change_what_is_shown(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    small = shown(capsys, "openmoji/dit-entangled")
    large = shown(capsys, "openmoji/dit-entangled", "--latent-shape", "4", "32", "32")
    assert (small["latent"], large["latent"]) == ("4 x 16 x 16", "4 x 32 x 32")
    assert small["classes"] == "11"
    deep = shown(capsys, "openmoji/dit-entangled", "--denoiser.depth", "8", "--num-classes", "3")
    assert deep["classes"] == "3"
    assert deep["parameters"] > small["parameters"]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("openmoji/mmdit-entangled", (4, 16, 16)),
        ("paper/unet-512", (4, 64, 64)),
        ("published/ldm-4-imagenet-256", (3, 64, 64)),
        ("published/mmdit-sd3-d24-256", (16, 32, 32)),
    ],
)
def test_latent_shapes(name, shape):
    assert latent_shape_of(get_recipe(name)) == shape


def test_a_shape_of_nothing_is_refused(capsys):
    assert main(["show", "openmoji/dit-entangled", "--latent-shape", "0", "8", "8"]) == 2
    assert "--latent-shape" in capsys.readouterr().err

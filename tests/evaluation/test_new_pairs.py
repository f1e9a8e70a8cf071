# SPDX-License-Identifier: Apache-2.0
"""scripts/new_pairs.py: its pairs, and its measures against known answers."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from pippin.data.config import OpenMojiConfig

PATH = Path(__file__).parents[2] / "scripts" / "new_pairs.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("new_pairs", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_a_pair_has_the_trained_captions_of_its_object(script):
    data = OpenMojiConfig(art=("openmoji", "twemoji"), left_out=("blue book", "rocket, twemoji"))
    source, pairs = script.find_pairs(data)
    books = {f"{colour} book" for colour in ("green", "orange")}
    result = {pair.caption: set(pair.trained) for pair in pairs}
    assert result == {
        "blue book, openmoji": {f"{book}, openmoji" for book in books},
        "blue book, twemoji": {f"{book}, twemoji" for book in books},
        "rocket, twemoji": {"rocket, openmoji"},
    }
    assert [source.captions(pair.image_index)["style"] for pair in pairs] == list(result)
    assert script.chance(pairs) == pytest.approx((1 / 3 + 1 / 3 + 1 / 2) / 3)


def test_measures_of_known_images(script):
    """Axes 0 and 1 are the pairs' captions, 2 a trained caption of the first one's object."""
    axes = torch.eye(3)
    pairs = [
        script.Pair(caption="a", trained=("other a",), image_index=0),
        script.Pair(caption="b", trained=("other a",), image_index=1),
    ]
    vectors = {"a": axes[0], "b": axes[1], "other a": axes[2]}
    # Pair a: all correct; the wrong attribute. Pair b: correct; the other pair's image.
    images = torch.stack([axes[0], 0.6 * axes[0] + axes[2], axes[1], axes[0] + 0.1 * axes[1]])
    result = script.measures_of(
        images.double(), pairs, vectors, torch.tensor([0, 0, 1, 1]), subject="arm", protocol={}
    )
    values = {measure.name: measure.value for measure in result}
    assert values["pair R@1"] == pytest.approx((2 / 2 + 1 / 2) / 2)
    assert values["right attribute"] == pytest.approx((1 / 2 + 2 / 2) / 2)
    assert all(measure.n == 2 for measure in result)  # captions, not images

# SPDX-License-Identifier: Apache-2.0
"""Settings of recipes that are readings of the papers, each with its alternative."""

import pytest

from pippin.recipes.table import RECIPES, get_recipe
from pippin.studies.table import get_study

PAPER = [name for name in RECIPES if name.startswith("paper/")]


@pytest.mark.parametrize("name", PAPER)
def test_the_protocol_s_rate_is_the_reading_of_the_paper(name):
    train = get_recipe(name).train
    assert (train.learning_rate, train.batch_size) == (1e-3, 2048)
    assert (train.warmup_images, train.decay_share, train.muon_learning_rate) == (0, 0.0, None)


@pytest.mark.parametrize("scale", ["gpu-hour", "paper"])
def test_the_study_of_rates_begins_with_the_recipes_own_and_has_dit_s(scale):
    study = get_study("learning-rate", scale=scale)
    arms = study.arms()
    assert [arm.train.learning_rate for arm in arms.values()] == [1e-3, 1e-4, 2e-3]
    for arm in arms.values():
        assert (arm.train.muon_learning_rate, arm.train.decay_share) == (None, 0.0)
        assert (arm.diffusion.schedule, arm.diffusion.prediction) == ("sd", "eps")

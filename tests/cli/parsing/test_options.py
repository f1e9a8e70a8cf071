# SPDX-License-Identifier: Apache-2.0
"""Command-line settings with a custom syntax."""

import pytest

from pippin.cli.parsing.options import parse, parse_average
from pippin.cli.train import TrainCommand
from pippin.recipes.table import get_recipe
from pippin.training.averaging.config import ImagesHalfLife, PowerProfile, ShareHalfLife


def averages(*words):
    default = TrainCommand(recipe=get_recipe("openmoji/mmdit-disentangled"))
    return parse(TrainCommand, "pippin train", list(words), default).recipe.train.ema_extra


def test_averages_are_given_as_weights_are_named():
    wanted = (
        ShareHalfLife(share=0.1),
        ImagesHalfLife(images=500_000),
        PowerProfile(sigma_rel=0.12),
    )
    assert averages("--train.ema-extra", "share-0.1", "images-500k", "power-0.12") == wanted
    assert tuple(parse_average(one.name) for one in wanted) == wanted
    assert averages() == averages("--train.ema-extra") == ()


@pytest.mark.parametrize("text", ["0.1", "share", "share-x", "images-0.5", "epochs-3", "power"])
def test_what_is_no_average_is_refused(text):
    with pytest.raises(ValueError, match=rf"share-0\.1 or images-500000; got '{text}'"):
        parse_average(text)

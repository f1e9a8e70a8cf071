# SPDX-License-Identifier: Apache-2.0
"""Somebody else's conditioner: known by name, and only where it was registered."""

from dataclasses import replace

import pytest
import torch

from pippin.conditioning.conditioner import Conditioner
from pippin.conditioning.config import ConditioningConfig
from pippin.conditioning.registry import find_conditioner, register_conditioner
from pippin.config import ConfigError
from pippin.control import Control, Corner, Size
from pippin.denoisers.config import mmdit
from pippin.model import build_model
from pippin.types import Conditions, stack_controls


class Deaf(Conditioner):
    """Hears no control."""

    def _control(self, conditions, keep):
        return ()


register_conditioner("tests-deaf", Deaf)
WHOLE = Control(
    original_size=Size(64, 64), crop_corner=Corner(0, 0), crop_size=Size(64, 64), flip=False
)


def model(name):
    config = ConditioningConfig(conditioner=name)
    return build_model(config, mmdit("tiny"), num_classes=3, latent_channels=4, seed=0)


def test_a_registered_class_builds_the_models_that_name_it():
    assert type(model("tests-deaf").conditioner) is Deaf
    controls = [WHOLE, replace(WHOLE, flip=True)]
    conditions = Conditions(label=torch.zeros(2).long(), control=stack_controls(controls))
    modulation = model("tests-deaf").prepare(conditions).at(torch.full((2,), 5.0)).modulation
    assert torch.equal(modulation[0], modulation[1])


def test_layers_of_one_name_start_alike_under_any_conditioner():
    ours, theirs = model("pippin").state_dict(), model("tests-deaf").state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_name_that_nobody_registered_is_an_error_that_says_what_to_do():
    with pytest.raises(ConfigError, match=r"'absent' is not registered.*register_conditioner"):
        model("absent")


def test_a_name_is_taken_once():
    register_conditioner("tests-deaf", Deaf)
    with pytest.raises(ConfigError, match="registered already"):
        register_conditioner("tests-deaf", Conditioner)
    assert find_conditioner("tests-deaf") is Deaf

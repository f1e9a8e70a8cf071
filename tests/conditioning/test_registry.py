# SPDX-License-Identifier: Apache-2.0
"""Registration of conditioners by name."""

from dataclasses import replace

import pytest
import torch

from pippin.conditioning.conditioner import Conditioner, find_conditioner, register_conditioner
from pippin.conditioning.config import ConditioningConfig
from pippin.config import ConfigError
from pippin.control import Control, Corner, Size
from pippin.denoisers.mmdit.config import mmdit
from pippin.model import build_model
from pippin.types import Conditions, stack_controls


class NoControl(Conditioner):
    """Conditioner that ignores control."""

    def _control(self, conditions, keep):
        return ()


register_conditioner("tests-no-control", NoControl)
WHOLE = Control(
    original_size=Size(64, 64), crop_corner=Corner(0, 0), crop_size=Size(64, 64), flip=False
)


def model(name):
    config = ConditioningConfig(conditioner=name)
    return build_model(config, mmdit("tiny"), num_classes=3, latent_channels=4, seed=0)


def test_a_registered_class_builds_the_models_that_name_it():
    assert type(model("tests-no-control").conditioner) is NoControl
    controls = [WHOLE, replace(WHOLE, flip=True)]
    conditions = Conditions(label=torch.zeros(2).long(), control=stack_controls(controls))
    modulation = model("tests-no-control").prepare(conditions).at(torch.full((2,), 5.0)).modulation
    assert torch.equal(modulation[0], modulation[1])


def test_layers_of_one_name_have_equal_initial_weights_under_any_conditioner():
    default_state, registered_state = (
        model("pippin").state_dict(),
        model("tests-no-control").state_dict(),
    )
    assert default_state.keys() == registered_state.keys()
    assert all(torch.equal(default_state[name], registered_state[name]) for name in default_state)


def test_an_unregistered_name_is_an_error_with_advice():
    with pytest.raises(
        ConfigError,
        match=r"'absent' is not known; known are: pippin.*--import MODULE.*register_conditioner",
    ):
        model("absent")


def test_a_misspelled_name_gets_a_suggestion():
    with pytest.raises(ConfigError, match=r"'pipin' is not known.*; near it are pippin; type"):
        find_conditioner("pipin")


def test_a_name_is_registered_once():
    register_conditioner("tests-no-control", NoControl)
    with pytest.raises(ConfigError, match="registered already"):
        register_conditioner("tests-no-control", Conditioner)
    assert find_conditioner("tests-no-control") is NoControl

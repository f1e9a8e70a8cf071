# SPDX-License-Identifier: Apache-2.0
"""Registration of denoisers by kind."""

import json
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pytest
import torch

from pippin.conditioning.config import ConditioningConfig
from pippin.config import ConfigError, check_record, fingerprint, protocol
from pippin.denoisers.config import DenoiserConfig, TransformerConfig
from pippin.denoisers.denoiser import Denoiser, Widths
from pippin.denoisers.dit.config import DiTConfig
from pippin.denoisers.dit.model import DiT
from pippin.denoisers.mdtv2.config import mdtv2
from pippin.denoisers.registry import build_denoiser, denoiser_config, register_denoiser
from pippin.denoisers.unet.config import unet
from pippin.model import build_model
from pippin.nn.initialise import Conv2d
from pippin.recipes.checks import check_recipe
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import get_recipe
from pippin.studies.study import Axis, Study
from pippin.training.train import train
from pippin.transfer.rules import TransferEnds, same_meaning
from pippin.types import Prediction


@dataclass(frozen=True, kw_only=True)
class FlatConfig(DenoiserConfig):
    """One convolution."""

    kind: Literal["tests-flat"] = "tests-flat"
    side: int = 3


class Flat(Denoiser):
    token_use = "none"

    def __init__(self, config, latent_channels):
        super().__init__()
        self.widths = Widths(token=8, modulation=8, time_features=8)
        self.conv = Conv2d(latent_channels, latent_channels, config.side)
        self.blocks = torch.nn.ModuleList()

    def forward(self, x_t, embedded, masking=None):
        return Prediction(mean=self.conv(x_t) + embedded.modulation.mean())


@dataclass(frozen=True, kw_only=True)
class UnknownConfig(FlatConfig):
    kind: Literal["tests-unknown"] = "tests-unknown"


@dataclass(frozen=True, kw_only=True)
class GridConfig(DenoiserConfig):
    """Learned positions for one grid."""

    kind: Literal["tests-grid"] = "tests-grid"
    grid: tuple[int, int] = (4, 4)

    @property
    def learned_grid(self):
        return self.grid

    def check_grid(self, resolution, patches):
        if self.grid != (patches, patches):
            raise ConfigError(f"{resolution} pixels are {patches} patches")


register_denoiser(FlatConfig, Flat)
register_denoiser(GridConfig, Flat)
MODULATION = ConditioningConfig(rules={"label": "modulation"})


def recipe(denoiser):
    return replace(get_recipe("openmoji/dit-entangled"), denoiser=denoiser)


def test_a_registered_kind_survives_its_record(tmp_path):
    registered = recipe(FlatConfig(side=5))
    registered.save(tmp_path / "config.json")
    assert json.loads((tmp_path / "config.json").read_text())["denoiser"] == {
        "kind": "tests-flat",
        "side": 5,
    }
    assert Recipe.load(tmp_path / "config.json") == registered
    assert protocol(registered)["denoiser.side"] == 5
    assert fingerprint(registered) != fingerprint(recipe(FlatConfig()))


def test_a_registered_class_builds_the_models_of_its_kind():
    built = build_model(MODULATION, FlatConfig(), num_classes=2, latent_channels=4, seed=0)
    assert type(built.denoiser) is Flat


def test_builtin_denoisers_use_the_same_table():
    assert type(build_denoiser(get_recipe("openmoji/dit-entangled").denoiser, 4)) is DiT
    assert denoiser_config("dit") is DiTConfig
    register_denoiser(DiTConfig, DiT)  # the same one again


UNKNOWN = (
    r"denoiser\.kind 'tests-unknown' is not known; known are: dit, mdtv2, pixart, mmdit, unet, .*"
    r"type --import MODULE for the module that calls register_denoiser.* @ \$\.denoiser"
)


def test_an_unregistered_kind_is_an_error_with_advice():
    with pytest.raises(ConfigError, match=UNKNOWN):
        Recipe.from_dict(recipe(UnknownConfig()).to_dict())


def test_a_misspelled_kind_gets_a_suggestion():
    with pytest.raises(ConfigError, match=r"'pixrt' is not known.*; near it are pixart"):
        denoiser_config("pixrt")


@pytest.mark.parametrize("given", [{"side": 3}, {"kind": 3}, 7])
def test_settings_without_a_kind_are_refused(given):
    values = recipe(FlatConfig()).to_dict() | {"denoiser": given}
    with pytest.raises(ConfigError, match=r"expected settings with a kind.* @ \$\.denoiser"):
        Recipe.from_dict(values)


def test_an_unknown_setting_of_a_known_kind_is_named():
    values = recipe(FlatConfig()).to_dict()
    values["denoiser"]["sides"] = 3
    expected = r"extra fields found \(sides\); near it are side @ \$\.denoiser"
    with pytest.raises(ConfigError, match=expected):
        Recipe.from_dict(values)


def test_training_refuses_what_could_not_be_loaded_before_any_work(tmp_path):
    with pytest.raises(ConfigError, match=UNKNOWN):
        train(recipe(UnknownConfig()), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_study_refuses_what_could_not_be_loaded():
    levels = {str(side): {"denoiser": UnknownConfig(side=side)} for side in (1, 3)}
    study = Study(
        name="sides",
        title="",
        question="",
        base=recipe(FlatConfig()),
        axes={"side": Axis(levels=levels)},
        primary="KID-efflite0",
    )
    with pytest.raises(ConfigError, match=UNKNOWN):
        study.check()


def test_settings_that_the_record_reads_as_others_are_named():
    @dataclass(frozen=True, kw_only=True)
    class Lossy(FlatConfig):
        side: float = 3.0

        def __post_init__(self):
            object.__setattr__(self, "side", self.side + 1)

    with pytest.raises(ConfigError, match=r"another one:\n  side: 4\.0 and 5\.0"):
        check_record(Lossy())


def test_numbers_that_cannot_be_recorded_are_a_config_error():
    recipe = get_recipe("openmoji/dit-entangled")
    object.__setattr__(recipe, "seed", np.int64(3))  # tests check types, programs do not
    with pytest.raises(ConfigError, match=r"cannot be recorded: .*int64.* such as int\(x\)"):
        check_record(recipe)


def test_a_kind_is_registered_once():
    register_denoiser(FlatConfig, Flat)

    @dataclass(frozen=True, kw_only=True)
    class Other(DenoiserConfig):
        kind: Literal["dit"] = "dit"

    with pytest.raises(ConfigError, match="'dit' is registered already; choose another name"):
        register_denoiser(Other, Flat)
    assert denoiser_config("dit") is DiTConfig


@pytest.mark.parametrize("odd", [TransformerConfig, DenoiserConfig])
def test_a_configuration_without_a_kind_cannot_be_registered(odd):
    with pytest.raises(ConfigError, match=r"derive it from DenoiserConfig and give it a field"):
        register_denoiser(odd, Flat)


def test_sides_of_latents_that_a_denoiser_divides():
    assert FlatConfig().side_multiple == 1
    assert get_recipe("openmoji/dit-entangled").denoiser.side_multiple == 2
    assert unet("tiny").side_multiple == 2 and unet("SD1").side_multiple == 8
    check_recipe(recipe(FlatConfig()))
    own = get_recipe("folder/dit-entangled")
    data = replace(own.data, path="photos", aspect_ratios=(0.5, 1.0), bucket_step=4)
    with pytest.raises(ConfigError, match="must be a multiple of 8"):
        check_recipe(replace(own, data=data))
    check_recipe(replace(own, data=data, denoiser=FlatConfig()))


def test_a_denoiser_declares_its_differences_and_the_checks_ask_for_them():
    """One with learned positions, which the package does not know, is treated as MDTv2 is."""
    check_recipe(recipe(GridConfig(grid=(16, 16))))
    with pytest.raises(ConfigError, match="64 pixels are 16 patches"):
        check_recipe(recipe(GridConfig()))
    own = get_recipe("folder/dit-entangled")
    data = replace(own.data, path="photos", aspect_ratios=(0.5, 1.0), bucket_step=8)
    with pytest.raises(ConfigError, match="denoiser tests-grid has learned positions for 4 x 4"):
        check_recipe(replace(own, data=data, denoiser=GridConfig()))
    ends = TransferEnds(old=GridConfig(), new=GridConfig(grid=(2, 8)))
    assert not same_meaning("denoiser.positions.weight", ends)
    assert same_meaning("denoiser.positions.weight", replace(ends, new=FlatConfig()))


def test_denoisers_that_declare_nothing_have_the_neutral_answers():
    plain, small = FlatConfig(), unet("tiny")
    assert (plain.shape_text, plain.dynamic_shapes, plain.learned_grid) == ("", None, None)
    assert plain.with_grid(8, 4) is plain and plain.with_projected_width(5) is plain
    with pytest.raises(ConfigError, match="no format but pippin's own"):
        plain.latent_channels({})
    assert (small.shape_text, small.dynamic_shapes) == ("32 channels", False)
    assert small.projected_width == 128 and small.with_projected_width(5).projected_width == 5
    assert small.latent_channels({"denoiser.conv_in.weight": (32, 7, 3, 3)}) == 7
    transformer = get_recipe("openmoji/dit-entangled").denoiser
    shapes = {"denoiser.patches.linear.weight": (128, 12)}
    assert transformer.shape_text == "4 x 128" and transformer.latent_channels(shapes) == 3
    assert transformer.with_grid(16, 8).base_grid == 8
    assert mdtv2("tiny", (8, 8)).with_grid(16, 8).learned_grid == (16, 16)

# SPDX-License-Identifier: Apache-2.0
"""Samples of one and of few steps by mean velocities, and the count of their evaluations."""

from dataclasses import replace

import pytest
import torch
from small_models import model_of
from torch import nn

from pippin import rng
from pippin.conditioning.config import ConditioningConfig
from pippin.config import ConfigError
from pippin.diffusion.schedules import make_schedule
from pippin.recipes.checks import check_recipe
from pippin.recipes.table import get_recipe
from pippin.sampling.config import (
    ControlRequest,
    GuidanceConfig,
    SamplingConfig,
    check_guidance,
)
from pippin.sampling.request import request_conditions
from pippin.sampling.sampler import Sampler
from pippin.types import Prediction

SHAPE = (4, 8, 8)
SEEDS = [11, 3, 7]
MEAN, STD = 1.5, 0.4
ONE_STEP = SamplingConfig(solver="meanflow", steps=1)


def conditions():
    return request_conditions([0, 1, 2], ControlRequest(), ["flip"], num_classes=3)


def spread(t):
    return ((1 - t) ** 2 * STD**2 + t**2).sqrt()


class ClosedForm(nn.Module):
    """The mean velocity of data N(MEAN, STD^2)."""

    def prepare(self, conditions, keep=None):
        return None

    def forward(self, x_t, t, prepared, interval=None):
        assert interval is not None
        t, interval = (x[:, None, None, None] / 1000 for x in (t, interval))
        r = t - interval
        end = (1 - r) * MEAN + spread(r) * (x_t - (1 - t) * MEAN) / spread(t)
        return Prediction(mean=(x_t - end) / interval)


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_any_number_of_steps_ends_at_the_exact_sample(steps, shift):
    """The path of normal data leads from noise n to MEAN + STD n; tolerance 1e-5."""
    config = replace(ONE_STEP, steps=steps, time_shift=shift)
    sampler = Sampler(ClosedForm(), make_schedule("flow"), "flow", config)
    noise = torch.stack([rng.normal(SHAPE, "sample", seed) for seed in SEEDS])
    samples = sampler.latents(conditions(), SEEDS, SHAPE)
    torch.testing.assert_close(samples, MEAN + STD * noise, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("scale", "terms"), [(1.0, 1), (2.0, 2)])
@pytest.mark.parametrize("batched", ["apart", "together"])
def test_each_step_evaluates_each_term_once(scale, terms, batched):
    model = model_of("dit", interval=True)
    guidance = GuidanceConfig(semantic_scale=scale)
    config = replace(ONE_STEP, steps=3, guidance=guidance, terms=batched)
    sampler, rows = Sampler(model, make_schedule("flow"), "flow", config), []
    model.denoiser.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    assert sampler.evaluations_per_image == 3 * terms
    samples = sampler.latents(everything(), SEEDS, SHAPE)
    assert sum(rows) == 3 * terms * len(SEEDS) and samples.isfinite().all()


def everything():
    names = ["original_size", "crop_corner", "crop_size", "flip"]
    return request_conditions([0, 1, 2], ControlRequest(), names, num_classes=3)


def test_other_solvers_follow_the_velocity_of_the_model():
    """At r = t the network is that of flow matching, and one step of either differs."""
    model = model_of("dit", interval=True)
    euler, mean = (
        Sampler(model, make_schedule("flow"), "flow", replace(ONE_STEP, solver=solver))
        for solver in ("euler", "meanflow")
    )
    noise = torch.stack([rng.normal(SHAPE, "sample", seed) for seed in SEEDS])
    t = torch.full((3,), 1000.0)
    with torch.no_grad():
        prepared = model.prepare(everything())
        velocity, own = (model(noise, t, prepared, None, x).mean for x in (0 * t, t))
    for sampler, u in ((euler, velocity), (mean, own)):
        samples = sampler.latents(everything(), SEEDS, SHAPE)
        torch.testing.assert_close(samples, noise - u, rtol=1e-4, atol=1e-4)
    assert (velocity - own).abs().max() > 1e-3


SETTINGS_OF_TIME = ({"log_snr_interval": (-3.0, 3.0)}, {"semantic_power": 1.0})


@pytest.mark.parametrize("setting", SETTINGS_OF_TIME)
def test_guidance_that_is_off_anyway_is_not_refused(setting):
    """As in recipes that guide inside an interval, sampled without guidance."""
    recipe = get_recipe("openmoji/dit-meanflow")
    guidance = GuidanceConfig(**{**setting, "semantic_scale": 1.0})
    check_guidance(replace(ONE_STEP, guidance=guidance), recipe.conditioning)


@pytest.mark.parametrize("setting", SETTINGS_OF_TIME)
def test_guidance_that_one_step_turns_off_is_refused(setting):
    """The unconditional term is evaluated in the second of two steps, and in no single one."""
    conditioning = ConditioningConfig(interval=True)
    guidance = GuidanceConfig(semantic_scale=3.0, **setting)
    for steps, evaluations in ((1, 1), (2, 3)):
        config = replace(ONE_STEP, guidance=guidance, steps=steps)
        sampler = Sampler(ClosedForm(), make_schedule("flow"), "flow", config)
        assert sampler.evaluations_per_image == evaluations
    with pytest.raises(ConfigError, match=r"in the one step of .*meanflow.*steps 1: leave it"):
        check_guidance(replace(ONE_STEP, guidance=guidance), conditioning)
    check_guidance(replace(ONE_STEP, guidance=guidance, steps=2), conditioning)
    recipe = get_recipe("openmoji/dit-meanflow")
    if "log_snr_interval" in setting:
        searched = replace(recipe.evaluation, intervals=((-3.0, 3.0),), scales=(2.0,))
        with pytest.raises(ConfigError, match=r"evaluation\.intervals .*turns guidance off"):
            check_recipe(replace(recipe, evaluation=searched))


def test_models_without_mean_velocities_are_refused():
    with pytest.raises(ConfigError, match="needs a model of mean velocities, trained with"):
        check_guidance(ONE_STEP, ConditioningConfig())
    check_guidance(ONE_STEP, ConditioningConfig(interval=True))
    model = model_of("dit")
    sampler = Sampler(model, make_schedule("flow"), "flow", ONE_STEP)
    with pytest.raises(ValueError, match="no embedding of intervals"):
        sampler.latents(everything(), SEEDS, SHAPE)
    recipe = get_recipe("openmoji/dit-meanflow")
    plain = replace(recipe, conditioning=replace(recipe.conditioning, interval=False))
    with pytest.raises(ConfigError, match="2 settings do not fit") as error:
        check_recipe(plain)
    assert "set --diffusion.meanflow.share 0.25 --conditioning.interval True" in str(error.value)

# SPDX-License-Identifier: Apache-2.0
"""Loss weights: one weighting, whatever the network predicts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pippin import rng
from pippin.config import ConfigError
from pippin.diffusion.config import (
    DiffusionConfig,
    MinSNRWeight,
    UniformWeight,
    VelocityWeight,
)
from pippin.diffusion.prediction import add_noise, convert, loss_weight, target
from pippin.diffusion.schedules import make_schedule

KINDS = ["eps", "v", "x0", "flow"]
NAMES = ["sd", "ddpm", "cosine", "flow"]


@pytest.mark.parametrize("config", [MinSNRWeight(), VelocityWeight()], ids=lambda c: c.kind)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_weighted_loss_does_not_depend_on_the_unit(name, kind, config):
    """The weighted error of any prediction equals that of the x0 it converts to; 1e-6."""
    schedule = make_schedule(name)
    t = torch.linspace(1, 990, 64, dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    x0 = rng.normal((64, 3), "noise", 1).double()
    eps = rng.normal((64, 3), "noise", 2).double()
    x_t, wanted = add_noise(x0, eps, alpha, sigma), target(kind, x0, eps, alpha, sigma)
    guess = wanted + rng.normal((64, 3), "noise", 3).double()
    guess_x0 = convert(kind, "x0", x_t, guess, alpha, sigma)

    def weigh(unit):
        return loss_weight(config, unit, schedule, t)

    loss = weigh(kind) * (guess - wanted).square().sum(1)
    loss_x0 = weigh("x0") * (guess_x0 - x0).square().sum(1)
    torch.testing.assert_close(loss, loss_x0, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(t=st.floats(0.001, 999), gamma=st.floats(0.1, 20))
def test_min_snr_in_its_published_forms(name, t, gamma):
    """Hang et al. 2023: min(SNR, g) for x0, / SNR for eps, / (SNR + 1) for v of VP schedules."""
    schedule, times = make_schedule(name), torch.tensor([t], dtype=torch.float64)
    snr = schedule.log_snr(times).exp()
    capped, config = snr.clamp(max=gamma), MinSNRWeight(gamma=gamma)
    forms = {"x0": capped, "eps": capped / snr}
    if name != "flow":
        forms["v"] = capped / (snr + 1)
    for kind, wanted in forms.items():
        found = loss_weight(config, kind, schedule, times)
        torch.testing.assert_close(found, wanted.float(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_ends_of_flow_take_their_limits(kind):
    ends = loss_weight(
        MinSNRWeight(gamma=4), kind, make_schedule("flow"), torch.tensor([0.0, 1000.0])
    )
    wanted = {"x0": [4, 0], "eps": [0, 1], "v": [0, 0], "flow": [0, 0]}[kind]
    torch.testing.assert_close(ends, torch.tensor(wanted).float(), rtol=1e-6, atol=1e-12)


def test_the_velocity_weight_in_its_published_form():
    """Li & He 2025: the velocity is (x0 - x_t) / max(1 - t, 0.05), t = 1 - sigma is 1 for data."""
    sigma = torch.tensor([0.0, 0.01, 0.05, 0.3, 1.0], dtype=torch.float64)
    weights = {
        kind: loss_weight(VelocityWeight(), kind, make_schedule("flow"), 1000 * sigma)
        for kind in ("x0", "flow")
    }
    expected = sigma.clamp(min=0.05) ** -2
    torch.testing.assert_close(weights["x0"], expected.float(), rtol=1e-6, atol=0)
    expected = (sigma / sigma.clamp(min=0.05)) ** 2
    torch.testing.assert_close(weights["flow"], expected.float(), rtol=1e-6, atol=1e-12)


def test_the_velocity_weight_is_refused_for_noise():
    with pytest.raises(ConfigError, match="to x0, v or flow"):
        DiffusionConfig(prediction="eps", loss_weight=VelocityWeight())
    with pytest.raises(ConfigError, match=r"diffusion\.loss_weight\.floor"):
        VelocityWeight(floor=0.0)


def test_the_uniform_weight_is_one():
    t = torch.tensor([0.0, 500.0], dtype=torch.float64)
    weight = loss_weight(UniformWeight(), "eps", make_schedule("sd"), t)
    assert weight.tolist() == [1, 1] and weight.dtype == torch.float32


def test_a_gamma_of_zero_is_refused():
    with pytest.raises(
        ValueError, match=r"diffusion\.loss_weight\.gamma must be more than 0; got 0"
    ):
        loss_weight(MinSNRWeight(gamma=0.0), "eps", make_schedule("sd"), torch.tensor([1.0]))

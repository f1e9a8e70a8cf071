# SPDX-License-Identifier: Apache-2.0
"""SNR rule against its closed forms and against a simulation."""

import math

import pytest
import torch

from pippin import rng
from pippin.conditioning.config import ConditioningConfig
from pippin.config import ConfigError
from pippin.diffusion.config import DiffusionConfig
from pippin.diffusion.rescale import RescaledSchedule, build_schedule, rescale_for_numbers
from pippin.diffusion.schedules import make_schedule
from pippin.objective.draws import draw_step
from pippin.objective.losses import Objective

DISCRETE = ["sd", "ldm-f4", "ddpm", "cosine"]
TIMES = torch.linspace(0, 999, 333, dtype=torch.float64)


@pytest.mark.parametrize("name", [*DISCRETE, "flow"])
@pytest.mark.parametrize("ratio", [0.5, 2.0, 4.0])
def test_the_snr_is_divided_by_the_square_of_the_ratio(name, ratio):
    """1e-12 relative, in float64."""
    base = make_schedule(name)
    inner = TIMES[1:] if name == "flow" else TIMES
    found = RescaledSchedule(base, ratio).log_snr(inner).exp()
    torch.testing.assert_close(found, base.log_snr(inner).exp() / ratio**2, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", DISCRETE)
def test_the_formula_of_alpha_squared(name):
    base, s = make_schedule(name), 2.0
    abar = base.alpha(TIMES) ** 2
    found = RescaledSchedule(base, s).alpha(TIMES) ** 2
    wanted = abar / (s**2 - abar * (s**2 - 1))
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_precision_is_that_of_the_schedule_itself(dtype):
    base, t = make_schedule("sd"), torch.tensor([0.0, 3, 250, 996]).to(dtype)
    found = RescaledSchedule(base, 2.0)
    wanted = base.log_snr(t.double()) - 2 * math.log(2)
    assert found.log_snr(t).dtype == base.log_snr(t).dtype
    assert torch.equal(found.log_snr(t), wanted.to(base.log_snr(t).dtype))
    assert found.time(t).dtype == base.time(t).dtype


def test_rectified_flow_shifts_time():
    u, s = TIMES / 1000, 3.0
    found = RescaledSchedule(make_schedule("flow"), s).sigma(TIMES)
    torch.testing.assert_close(found, s * u / (1 + (s - 1) * u), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", [*DISCRETE, "flow"])
def test_a_ratio_of_one_is_the_schedule_itself(name):
    assert type(build_schedule(DiffusionConfig(schedule=name))) is type(make_schedule(name))
    base, same = make_schedule(name), RescaledSchedule(make_schedule(name), 1.0)
    assert torch.equal(same.alpha(TIMES), base.alpha(TIMES))


@pytest.mark.parametrize("name", [*DISCRETE, "flow"])
def test_time_is_the_inverse_and_indices_stay(name):
    base, found = make_schedule(name), RescaledSchedule(make_schedule(name), 2.0)
    inner = TIMES[3:-3]
    torch.testing.assert_close(found.time(found.log_snr(inner)), inner, rtol=0, atol=1e-8)
    assert torch.equal(found.times(10), base.times(10))
    fractions = torch.linspace(0, 0.999, 20)
    assert torch.equal(found.time_at(fractions), base.time_at(fractions))


@pytest.mark.parametrize("name", ["sd", "flow"])
@pytest.mark.parametrize("t", [200.0, 600.0])
def test_it_equals_the_averaging_experiment(name, t):
    """Add noise to a constant patch at s times the side under the rescaled schedule and average
    s x s values: the SNR equals that of the base schedule at low resolution."""
    s, side, count = 2, 16, 400
    base = make_schedule(name)
    schedule = RescaledSchedule(base, float(s))
    when = torch.tensor([t], dtype=torch.float64)
    alpha, sigma = schedule.alpha(when), schedule.sigma(when)
    content = rng.normal((count, 1, side, side), "noise", 0, 0).double()
    noise = rng.normal((count, 1, s * side, s * side), "noise", 0, 1).double()
    large = content.repeat_interleave(s, 2).repeat_interleave(s, 3)
    averaged = torch.nn.functional.avg_pool2d(alpha * large + sigma * noise, s)
    left = averaged - alpha * content
    measured = (alpha * content).square().mean() / left.square().mean()
    wanted = base.log_snr(when).exp()
    # two means of squares of 102400 normal numbers: standard error sqrt(2 * 2 / 102400) = 0.6 %
    assert measured / wanted == pytest.approx(1, abs=5 * math.sqrt(4 / content.numel()))


@pytest.mark.parametrize("name", DISCRETE)
def test_a_smaller_side_is_refused_with_its_terminal_snr(name):
    end = make_schedule(name).log_snr(torch.tensor(999.0))
    wanted = rf"log-SNR of {end + 2 * math.log(2):.2f} instead of {end:.2f}"
    with pytest.raises(ConfigError, match=wanted):
        build_schedule(DiffusionConfig(schedule=name, rescale=0.5))
    assert build_schedule(DiffusionConfig(schedule="flow", rescale=0.5)).ratio == 0.5


def test_training_noises_as_the_schedule_that_sampling_has_says():
    """One configuration builds both: training states lie on the sampler's schedule."""
    config = DiffusionConfig(schedule="flow", prediction="flow", rescale=2.0)
    seen = []

    def predict(x_t, t):
        seen.append((x_t, t))
        from pippin.types import Prediction

        return Prediction(mean=x_t)

    t = torch.tensor([100.0, 500.0])
    latents, noise = torch.ones(2, 4, 8, 8), rng.normal((2, 4, 8, 8), "noise", 0, 2)
    Objective(config)(predict, latents, t, noise)
    ((x_t, fed),) = seen
    schedule = build_schedule(config)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    wanted = alpha[:, None, None, None] * latents + sigma[:, None, None, None] * noise
    torch.testing.assert_close(x_t, wanted)
    assert torch.equal(fed, t)  # the network reads the index
    drawn = draw_step(config, ConditioningConfig(), (64, 4, 8, 8), seed=0, step=0)
    plain = draw_step(
        DiffusionConfig(schedule="flow", prediction="flow"),
        ConditioningConfig(),
        (64, 4, 8, 8),
        seed=0,
        step=0,
    )
    assert torch.equal(drawn.t, plain.t)


def test_the_rule_for_latents_of_many_channels_is_a_shift_of_time():
    """t' = s t / (1 + (s - 1) t) with s = sqrt(m / 4096) (Zheng et al. 2025), here for 768 x 16 x
    16 numbers: s^2 = 48."""
    s = rescale_for_numbers(768 * 16 * 16)
    assert s**2 == pytest.approx(48)
    assert rescale_for_numbers(4 * 32 * 32) == 1
    schedule = build_schedule(DiffusionConfig(schedule="flow", prediction="flow", rescale=s))
    u = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(schedule.sigma(1000 * u), s * u / (1 + (s - 1) * u))
    with pytest.raises(ValueError, match="at least one number; got 0"):
        rescale_for_numbers(0)

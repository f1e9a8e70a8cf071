# SPDX-License-Identifier: Apache-2.0
"""Mean velocities: the identity in closed form, and the derivative of every denoiser."""

import pytest
import torch
from small_models import KINDS, model_of
from small_trainer import batches

from pippin import rng
from pippin.denoisers.ddt.config import ddt
from pippin.denoisers.dit.config import dit
from pippin.denoisers.jit.config import jit
from pippin.diffusion.config import AdaptiveWeight, MeanFlowConfig
from pippin.diffusion.meanflow import (
    guided_velocity,
    interval_rows,
    mean_velocity_target,
    ordered_interval,
    total_derivative,
)
from pippin.diffusion.prediction import adaptive_weight

MEAN, STD = 1.5, 0.4
DENOISERS = KINDS | {
    "jit": jit("tiny", context=True, patch_size=2),
    "ddt": ddt("tiny"),
    "lightningdit": dit(
        "tiny", norm="rms", mlp="swiglu", rotary=True, qk_norm=True, time_input="data"
    ),
}


def spread(t):
    """Deviation of z_t of normal data."""
    return ((1 - t) ** 2 * STD**2 + t**2).sqrt()


def moved(z, t, r):
    """State at r on the path through z at t: a normal variable keeps its quantile."""
    return (1 - r) * MEAN + spread(r) * (z - (1 - t) * MEAN) / spread(t)


def gaussian_velocity(z, t):
    slope = (t - (1 - t) * STD**2) / spread(t)
    return -MEAN + slope * (z - (1 - t) * MEAN) / spread(t)


def gaussian_mean_velocity(z, t, interval):
    """Closed form of u for data N(MEAN, STD^2), with times in [0, 1000]."""
    t, interval = (x.reshape(-1, 1, 1, 1) / 1000 for x in (t, interval))
    return (z - moved(z, t, t - interval)) / interval


def test_the_identity_holds_for_normal_data():
    z = rng.normal((6, 2, 3, 3), "noise", 0).double()
    t = torch.tensor([50.0, 300, 300, 700, 999, 1000], dtype=torch.float64)
    interval = torch.tensor([50.0, 1, 300, 350, 999, 1000], dtype=torch.float64)
    velocity = gaussian_velocity(z, t.reshape(-1, 1, 1, 1) / 1000)
    found = mean_velocity_target(gaussian_mean_velocity, z, t, interval, velocity)
    expected = gaussian_mean_velocity(z, t, interval)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    off = mean_velocity_target(gaussian_mean_velocity, z, t, interval, velocity + 0.1)
    assert (off - expected).abs().amin(dim=(1, 2, 3)).max() > 1e-3


@pytest.mark.parametrize("kind", DENOISERS)
def test_the_derivative_is_that_of_central_differences(kind, monkeypatch):
    """In float64, also where denoisers compute in float32; step 1e-6, tolerance 1e-5."""
    model, batch = model_of(kind, 0, DENOISERS[kind], interval=True), next(batches(batch_size=3))
    with torch.no_grad():  # fills the caches of positions, which other tests share, in float32
        model(batch.latents, torch.ones(3), model.prepare(batch.conditions))
    model.double()
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    z, velocity = (rng.normal((3, 4, 8, 8), "noise", key).double() for key in (0, 1))
    t = torch.tensor([310.0, 650, 990], dtype=torch.float64)
    interval = torch.tensor([310.0, 0, 420], dtype=torch.float64)

    def network(z, t, interval):
        prepared = model.prepare(batch.conditions)
        return model(z, t, prepared, None, interval).mean

    step = 1e-6
    with torch.no_grad():
        found = total_derivative(network, z, t, interval, velocity)
        ahead, behind = (
            network(z + h * velocity, t + 1000 * h, interval + 1000 * h) for h in (step, -step)
        )
    expected = (ahead - behind) / (2 * step)
    assert found.abs().amax(dim=(1, 2, 3)).min() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_rows_with_an_interval_are_a_share_at_equal_distances():
    for share in (0.25, 0.3, 1.0):
        chosen = torch.stack([interval_rows(share, 40, k / 10) for k in range(10)])
        assert chosen.float().mean().item() == pytest.approx(share)
        counts = chosen.unflatten(1, (5, 8)).sum(2)  # of five ranks
        assert (counts - 8 * share).abs().max() < 1
    assert interval_rows(0.25, 8, 0.3).nonzero().flatten().tolist() == [2, 6]


def test_the_later_time_ends_the_interval():
    first, second = torch.tensor([300.0, 300, 900]), torch.tensor([500.0, 500, 100])
    t, interval = ordered_interval(first, second, torch.tensor([True, False, True]))
    assert t.tolist() == [500, 500, 900] and interval.tolist() == [200, 0, 800]


@pytest.mark.parametrize("omega", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("kappa", [0.0, 0.5])
def test_the_guided_velocity_is_the_published_combination(omega, kappa):
    v, conditional, unconditional = (rng.normal((3, 1, 2, 2), "noise", k) for k in range(3))
    config = MeanFlowConfig(share=0.25, omega=omega, kappa=kappa)
    t = torch.tensor([100.0, 500, 900])
    found = guided_velocity(config, v, conditional, unconditional, t)
    expected = omega * v + kappa * conditional + (1 - omega - kappa) * unconditional
    torch.testing.assert_close(found, expected)
    # a network that has learnt it is guided by omega / (1 - kappa)
    scale = omega / (1 - kappa)
    learnt = unconditional + scale * (v - unconditional)
    torch.testing.assert_close(
        guided_velocity(config, v, learnt, unconditional, t), learnt, rtol=1e-5, atol=1e-5
    )
    if config.guided:
        some = MeanFlowConfig(share=0.25, omega=omega, kappa=kappa, guided_times=(0.2, 0.6))
        found = guided_velocity(some, v, conditional, unconditional, t)
        torch.testing.assert_close(found, torch.where(t[:, None, None, None] == 500, expected, v))


def test_the_adaptive_weight_in_closed_form():
    errors = rng.normal((4, 3), "noise", 0).square()
    total, mean = errors.sum(1), errors.mean(1).requires_grad_()
    config = AdaptiveWeight(power=1.0, offset=0.2)
    loss = mean * adaptive_weight(config, mean, 3)
    torch.testing.assert_close(loss, total / (total + 0.2))
    loss.sum().backward()
    torch.testing.assert_close(mean.grad, 3 / (total + 0.2))  # the weight is a constant
    half = adaptive_weight(AdaptiveWeight(power=0.5, offset=0.2), mean, 3)
    torch.testing.assert_close(mean * half, total / (total + 0.2) ** 0.5 / 3**0.5)
    none = adaptive_weight(AdaptiveWeight(power=0.0), mean, 3)
    assert torch.equal(mean * none, mean)

# SPDX-License-Identifier: Apache-2.0
"""Loss and random numbers of a training step."""

import math
from dataclasses import replace

import pytest
import torch

from pippin.conditioning.config import ConditioningConfig
from pippin.config import ConfigError, protocol
from pippin.denoisers.dit.config import dit
from pippin.diffusion.config import (
    DiffusionConfig,
    LogitNormalTime,
    MinSNRWeight,
    VelocityWeight,
)
from pippin.diffusion.prediction import MIN_NORM, direction_error
from pippin.objective.draws import draw_step
from pippin.objective.losses import Objective
from pippin.objective.setting_checks import check_objective
from pippin.types import KeptTokens, Prediction

SHAPE = (6, 4, 8, 8)


def draws(step=0, seed=0, config=None):
    return draw_step(
        config or DiffusionConfig(), ConditioningConfig(), SHAPE, seed=seed, step=step
    )


def latents():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


def test_draws_depend_on_seed_and_step_only():
    first, again = draws(3), draws(3)
    torch.manual_seed(99)
    assert torch.equal(first.noise, again.noise)
    assert torch.equal(first.t, again.t)
    assert torch.equal(first.keep.control, again.keep.control)
    assert not torch.equal(first.noise, draws(4).noise)
    assert not torch.equal(first.t, draws(3, seed=1).t)


@pytest.mark.parametrize(
    ("schedule", "prediction"),
    [(name, kind) for name in ("sd", "cosine", "flow") for kind in ("eps", "v", "x0")]
    + [("flow", "flow")],
)
def test_a_network_that_knows_the_noise_has_no_loss(schedule, prediction):
    config = DiffusionConfig(schedule=schedule, prediction=prediction)
    objective, d, x0 = Objective(config), draws(config=config), latents()
    alpha = objective.schedule.alpha(d.t)[:, None, None, None]
    sigma = objective.schedule.sigma(d.t)[:, None, None, None]
    # the definitions of the prediction types, written out
    truth = {
        "eps": d.noise,
        "x0": x0,
        "v": alpha * d.noise - sigma * x0,
        "flow": d.noise - x0,
    }[prediction]
    losses = objective(lambda x_t, t: Prediction(mean=truth), x0, d.t, d.noise)
    assert losses["mse"].shape == (6,)
    assert losses["mse"].max() < 1e-10


def test_the_network_sees_the_noised_latents_and_the_drawn_times():
    objective, d, x0, seen = Objective(DiffusionConfig()), draws(), latents(), {}

    def predict(x_t, t):
        seen.update(x_t=x_t, t=t)
        return Prediction(mean=torch.zeros_like(x_t))

    loss = objective(predict, x0, d.t, d.noise)["mse"]
    alpha = objective.schedule.alpha(d.t)[:, None, None, None]
    sigma = objective.schedule.sigma(d.t)[:, None, None, None]
    assert torch.equal(seen["t"], d.t)
    torch.testing.assert_close(seen["x_t"], alpha * x0 + sigma * d.noise)
    torch.testing.assert_close(loss, d.noise.square().mean(dim=(1, 2, 3)))


def test_one_image_does_not_change_another_ones_loss():
    objective, d, x0 = Objective(DiffusionConfig()), draws(), latents()

    def predict(x_t, t):
        return Prediction(mean=0.5 * x_t)

    before = objective(predict, x0, d.t, d.noise)["mse"]
    x0[2] += 1
    after = objective(predict, x0, d.t, d.noise)["mse"]
    assert torch.equal(before != after, torch.arange(6) == 2)


def test_min_snr_weighs_noise_free_steps_down():
    config = DiffusionConfig(loss_weight=MinSNRWeight(gamma=5.0))
    plain, weighted = Objective(DiffusionConfig()), Objective(config)
    t, x0, noise = torch.tensor([5.0] * 3 + [900.0] * 3), latents(), draws().noise

    def predict(x_t, t):
        return Prediction(mean=torch.zeros_like(x_t))

    ratio = weighted(predict, x0, t, noise)["mse"] / plain(predict, x0, t, noise)["mse"]
    snr = plain.schedule.log_snr(t).exp()
    torch.testing.assert_close(ratio, snr.clamp(max=5.0) / snr)


def test_x_prediction_with_the_loss_of_the_velocity():
    """Li & He 2025: z = t x + (1 - t) e, target (x - z) / max(1 - t, 0.05), squared error."""
    config = DiffusionConfig(schedule="flow", prediction="x0", loss_weight=VelocityWeight())
    t, x0, noise = torch.tensor([0.0, 20.0, 49.0, 51.0, 500.0, 1000.0]), latents(), draws().noise
    guess = latents() + 0.3 * noise.flip(0)
    losses = Objective(config)(lambda x_t, t: Prediction(mean=guess), x0, t, noise)
    u = (1 - t / 1000)[:, None, None, None]
    z = u * x0 + (1 - u) * noise
    target, velocity = ((x - z) / (1 - u).clamp(min=0.05) for x in (x0, guess))
    expected = (velocity - target).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(losses["mse"], expected, rtol=1e-4, atol=1e-6)


def test_time_density_is_used():
    config = DiffusionConfig(schedule="flow", time_density=LogitNormalTime(mean=4.0, std=0.1))
    assert draws(config=config).t.min() > 950


def learned(scale):
    """Network with one parameter for its mean and one for its variance."""
    parts = torch.full((2,), scale, requires_grad=True)

    def predict(x_t, t):
        mean, variance = parts[0] * x_t, parts[1] * x_t
        aux = Prediction(mean=0.5 * mean, variance=variance)
        return Prediction(mean=mean, variance=variance, aux=aux)

    return parts, predict


def test_a_learned_variance_adds_the_bound_which_trains_the_variance_alone():
    objective = Objective(DiffusionConfig(schedule="ddpm"))
    x0 = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    t = torch.tensor([0.0, 1.0, 10.0, 300.0, 700.0, 999.0])
    parts, predict = learned(0.3)
    losses = objective(predict, x0, t, draws().noise)
    assert set(losses) == {"mse", "vlb", "aux mse", "aux vlb"}
    assert all(loss.shape == (6,) and loss.isfinite().all() for loss in losses.values())
    (gradient,) = torch.autograd.grad(losses["vlb"].sum(), parts, retain_graph=True)
    assert gradient[0] == 0
    assert gradient[1] != 0
    (gradient,) = torch.autograd.grad(losses["mse"].sum(), parts)
    assert gradient[0] != 0
    assert gradient[1] == 0


def test_a_learned_variance_needs_indices():
    with pytest.raises(ConfigError, match="learn_variance True needs a schedule of 1000"):
        check_objective(DiffusionConfig(schedule="flow"), dit("tiny", learn_variance=True))
    check_objective(DiffusionConfig(schedule="sd"), dit("tiny", learn_variance=True))
    check_objective(DiffusionConfig(schedule="flow"), dit("tiny"))


def test_masks_are_drawn_for_masked_models_and_depend_on_seed_and_step_only():
    def masking(step, count=16):
        conditioning = ConditioningConfig()
        shape = (3, 4, 8, 8)
        return draw_step(
            DiffusionConfig(), conditioning, shape, num_shuffled=count, seed=1, step=step
        ).masking

    assert masking(0, count=0) is None
    assert masking(0).order.shape == (3, 16)
    assert torch.equal(masking(0).order, masking(0).order)
    assert not torch.equal(masking(0).order, masking(1).order)
    assert 0 <= masking(5).ratio_position < 1
    assert masking(5).ratio_position != masking(6).ratio_position


@pytest.mark.parametrize(
    ("factor", "angle", "expected"), [(3.0, 0, 0.0), (0.1, 90, 1.0), (2.0, 180, 2.0), (1, 60, 0.5)]
)
@pytest.mark.parametrize(("schedule", "prediction"), [("flow", "flow"), ("gvp", "v")])
def test_the_direction_loss_is_one_minus_the_cosine(schedule, prediction, factor, angle, expected):
    config = DiffusionConfig(schedule=schedule, prediction=prediction, direction_weight=0.5)
    latents, noise = torch.zeros(2, 2, 2, 3), torch.zeros(2, 2, 2, 3)
    noise[:, 0] = 2.0  # all velocities point along the first channel
    turned = math.radians(angle)
    output = torch.tensor([math.cos(turned), math.sin(turned)])[None, :, None, None] * factor

    def predict(x_t, t):
        return Prediction(mean=output.expand_as(x_t))

    losses = Objective(config)(predict, latents, torch.tensor([400.0, 900.0]), noise)
    torch.testing.assert_close(losses["direction"], torch.full((2,), 0.5 * expected))
    plain = Objective(replace(config, direction_weight=0.0))
    squared = plain(predict, latents, torch.tensor([400.0, 900.0]), noise)
    assert squared.keys() == {"mse"} and torch.equal(squared["mse"], losses["mse"])


def test_the_direction_of_an_output_near_zero_has_a_bounded_gradient():
    """As that of a network whose last layer begins at zero."""
    expected = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    for scale in (0.0, 1e-6, 1.0):
        output = (scale * expected.flip(0)).requires_grad_()
        direction_error(output, expected).mean().backward()
        assert 0.01 < output.grad.norm() < 1 / MIN_NORM / (4 * 64) ** 0.5 + 1e-6 < 1


def test_the_direction_loss_is_a_mean_over_the_pixels_that_count():
    config = DiffusionConfig(schedule="flow", prediction="flow", direction_weight=1.0)
    latents, noise, output = torch.randn(3, 2, 4, 2, 4, generator=torch.Generator().manual_seed(3))
    mask = torch.zeros(2, 1, 2, 4)
    mask[0, 0, 1, 2] = mask[0, 0, 0, 3] = mask[1, 0, 0, 0] = 1
    kept = KeptTokens(index=torch.zeros(2, 1, dtype=torch.int64), num_tokens=8, latents=mask)
    t, found = torch.tensor([400.0, 900.0]), []
    for own in (None, kept):
        prediction = Prediction(mean=output, kept=own)
        losses = Objective(config)(lambda x, t, p=prediction: p, latents, t, noise)
        found.append(losses["direction"].tolist())
    target = noise - latents
    for image in range(2):
        errors = {}
        for row in range(2):
            for column in range(4):
                a, b = (
                    output[image, :, row, column].double(),
                    target[image, :, row, column].double(),
                )
                cosine = (a * b).sum() / ((a * a).sum().sqrt() * (b * b).sum().sqrt())
                errors[row, column] = 1 - cosine.item()
        counted = [error for place, error in errors.items() if mask[(image, 0, *place)]]
        assert found[0][image] == pytest.approx(sum(errors.values()) / 8, rel=1e-5)
        assert found[1][image] == pytest.approx(sum(counted) / len(counted), rel=1e-5)


@pytest.mark.parametrize(
    ("schedule", "prediction"), [("flow", "x0"), ("sd", "v"), ("gvp", "flow"), ("sd", "eps")]
)
def test_only_velocities_have_a_direction(schedule, prediction):
    with pytest.raises(ConfigError, match="direction_weight is for predictions of the velocity"):
        DiffusionConfig(schedule=schedule, prediction=prediction, direction_weight=1.0)
    assert "diffusion.direction_weight" not in protocol(DiffusionConfig(), "diffusion.")

# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from pippin.diffusion.prediction import target, to_x0_and_eps
from pippin.diffusion.schedules import NoiseSchedule, make_schedule
from pippin.evaluation.metrics.denoising import denoising_errors, denoising_loss, noise_levels
from pippin.types import Prediction

GRID = (-4.0, 0.0, 4.0)
STD = 0.5


def latents(n: int = 24) -> torch.Tensor:
    return STD * torch.randn(n, 2, 4, 4, generator=torch.Generator().manual_seed(0))


def best_guess(kind, schedule: NoiseSchedule):
    """Posterior mean of x0 given x_t for x0 distributed as N(0, STD^2):
    x0 = a s^2 x_t / (a^2 s^2 + sigma^2)."""

    def predict(x_t, t):
        alpha, sigma = (schedule.alpha(t), schedule.sigma(t))
        a, s = alpha[:, None, None, None], sigma[:, None, None, None]
        x0 = a * STD**2 * x_t / (a**2 * STD**2 + s**2)
        _, eps = to_x0_and_eps("x0", x_t, x0, alpha, sigma)
        return Prediction(mean=target(kind, x0, eps, alpha, sigma))

    return lambda rows: predict


def losses(kind, schedule, **options):
    options = {"seed": 0, "batch_size": 7} | options
    data = options.pop("latents", latents())
    network = options.pop("network", best_guess(kind, schedule))
    result = denoising_loss(network, data, schedule, kind, GRID, **options)
    return {measure.name: measure for measure in result}


def test_the_best_guess_has_the_posterior_variance():
    """x0-error = 1 / (1 / STD^2 + SNR) for Gaussian data; 24 x 32 values: within 15 %."""
    result = losses("eps", make_schedule("sd"))
    for log_snr in GRID:
        expected = 1 / (1 / STD**2 + math.exp(log_snr))
        x0_error = result[f"x0-error at log-SNR {log_snr:g}"]
        eps_error = result[f"eps-error at log-SNR {log_snr:g}"]
        assert x0_error.value == pytest.approx(expected, rel=0.15)
        assert eps_error.value == pytest.approx(x0_error.value * math.exp(log_snr), rel=1e-3)
    mean = sum(result[f"eps-error at log-SNR {point:g}"].value for point in GRID) / 3
    assert result["held-out loss"].value == pytest.approx(mean)


@pytest.mark.parametrize("name", ["sd", "cosine"])
@pytest.mark.parametrize("kind", ["v", "x0", "flow"])
def test_prediction_types_compare(kind, name):
    """The same prediction in another unit, on another variance-preserving schedule, has the same
    loss."""
    expected = losses("eps", make_schedule("sd"))
    result = losses(kind, make_schedule(name))
    for measure in expected:
        assert result[measure].value == pytest.approx(expected[measure].value, rel=2e-3), measure


def test_a_perfect_network_has_no_error():
    data, schedule = latents(), make_schedule("flow")

    def perfect(rows):
        def predict(x_t, t):
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            _, eps = to_x0_and_eps("x0", x_t, data[rows], alpha, sigma)
            return Prediction(mean=target("flow", data[rows], eps, alpha, sigma))

        return predict

    for measure in losses("flow", schedule, network=perfect).values():
        assert measure.value < 1e-9


def test_batches_do_not_change_the_loss():
    schedule = make_schedule("sd")
    single_batch, batched = (
        losses("eps", schedule, batch_size=24),
        losses("eps", schedule, batch_size=5),
    )
    for name, measure in single_batch.items():
        assert measure.value == pytest.approx(batched[name].value, rel=1e-6)


def test_noise_of_a_point_does_not_depend_on_the_rest_of_the_grid():
    schedule, network = make_schedule("sd"), best_guess("eps", make_schedule("sd"))
    alone, _ = denoising_errors(
        network, latents(4), schedule, "eps", noise_levels(schedule, [0.0]), seed=0, batch_size=4
    )
    among, _ = denoising_errors(
        network, latents(4), schedule, "eps", noise_levels(schedule, GRID), seed=0, batch_size=2
    )
    assert torch.allclose(alone[:, 0], among[:, 1], rtol=1e-6)
    other, _ = denoising_errors(
        network, latents(4), schedule, "eps", noise_levels(schedule, [0.0]), seed=1, batch_size=4
    )
    assert not torch.allclose(alone, other)


def test_points_beyond_the_schedule_are_measured_at_its_end_and_reported():
    schedule = make_schedule("sd")
    end = float(schedule.log_snr(torch.tensor([999.0], dtype=torch.float64)))
    low, middle = noise_levels(schedule, [-6.0, 0.0])
    assert low.requested == -6 and low.reached == pytest.approx(end) and float(low.time) == 999
    assert middle.reached == middle.requested == 0
    result = denoising_loss(
        best_guess("eps", schedule), latents(3), schedule, "eps", [-6.0, 0.0], seed=0
    )
    assert result[0].protocol["log_snrs_reached"] == [round(end, 3), 0.0]
    clipped = next(measure for measure in result if measure.name == "eps-error at log-SNR -6")
    assert clipped.protocol["log_snr_reached"] == round(end, 3)


def test_grids_that_cannot_be_measured_are_refused():
    schedule = make_schedule("sd")
    with pytest.raises(ValueError, match="at most one point beyond"):
        noise_levels(schedule, [-7.0, -6.0, 0.0])
    with pytest.raises(ValueError, match="at least one"):
        noise_levels(schedule, [])


def test_a_network_that_returns_nan_has_no_loss():
    def broken(rows):
        return lambda x_t, t: Prediction(mean=x_t * float("nan"))

    headline = losses("eps", make_schedule("sd"), network=broken)["held-out loss"]
    assert math.isnan(headline.value) and headline.to_dict()["value"] is None


def test_interval_is_over_images():
    result = losses("eps", make_schedule("sd"))["held-out loss"]
    assert result.n == 24 and result.interval_over == "samples"
    assert result.low is not None and result.high is not None
    assert result.low < result.value < result.high

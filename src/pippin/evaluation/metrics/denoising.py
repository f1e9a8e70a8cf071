# SPDX-License-Identifier: Apache-2.0
"""Held-out denoising loss: fixed images, fixed noise, a fixed grid of log-SNR.

It costs one network evaluation per image and grid point, draws no sample, and is far less noisy
than a distance between sets of images. Errors are measured after conversion to eps and to x0, so
models of different prediction types and schedules can be compared: at one log-SNR, x0-error =
eps-error / SNR, whatever the network predicts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from pippin.diffusion.config import PredictionType
from pippin.diffusion.prediction import add_noise, to_x0_and_eps
from pippin.diffusion.schedules import NoiseSchedule
from pippin.evaluation.measure import Measure, Subject, mean_measure
from pippin.evaluation.metric import Metric
from pippin.evaluation.metrics.declared.denoising import (
    EPS_ERROR,
    HELD_OUT_LOSS,
    HELD_OUT_X0_LOSS,
    X0_ERROR,
)
from pippin.objective.losses import Predict
from pippin.rng import normal
from pippin.system.device import to_device
from pippin.types import Latents

PredictFor = Callable[[Int64[Tensor, " batch"]], Predict]
"""Rows of the latents -> a network that is already given the conditions of these images."""

TOLERANCE = 1e-3
"""Tolerance in log-SNR: times are float32, which represent a grid point to about 1e-4."""


@dataclass(frozen=True, kw_only=True)
class NoiseLevel:
    """One noise level of the grid."""

    requested: float
    """Requested log-SNR; it names the measure and keys the noise."""
    reached: float
    """Measured log-SNR: the nearest end of the schedule if the requested one is beyond it."""
    time: Float[Tensor, ""]
    """Time that the network is given."""


def denoising_loss(
    predict_for: PredictFor,
    latents: Latents,
    schedule: NoiseSchedule,
    prediction_type: PredictionType,
    log_snrs: Sequence[float],
    *,
    seed: int,
    batch_size: int = 64,
    subject: Subject = "arm",
) -> list[Measure]:
    """Mean squared error per latent value on noised held-out latents.

    Noise is drawn by (seed, row, log-SNR): another grid or batch size leaves it as it is.

    Args:
        predict_for: called once for each batch of rows.
        latents: normalised latents of held-out images.
        schedule: noise schedule of the model.
        prediction_type: prediction type of the network.
        log_snrs: the grid. A point beyond the schedule's ends is measured at the end, and the
            protocol says at which log-SNR (``log_snr_reached``).
        seed: seed of the noise and of the bootstrap over images.
        batch_size: number of images per forward pass.
        subject: trained or untrained model.

    Returns:
        ``held-out loss``, the mean of the eps-error over the grid; the same of the x0-error;
        then both errors at every grid point. Intervals are over images.

    Raises:
        ValueError: an empty grid, or two points that fall on one end of the schedule.
    """
    levels = noise_levels(schedule, log_snrs)
    eps_errors, x0_errors = denoising_errors(
        predict_for, latents, schedule, prediction_type, levels, seed=seed, batch_size=batch_size
    )

    def measure(metric: Metric, values: Tensor, protocol: dict[str, Any]) -> Measure:
        return mean_measure(metric, values, seed=seed, subject=subject, protocol=protocol)

    grid_protocol = {
        "log_snrs": [level.requested for level in levels],
        "log_snrs_reached": [round(level.reached, 3) for level in levels],
    }
    measures = [
        measure(HELD_OUT_LOSS(), eps_errors.mean(1), grid_protocol),
        measure(HELD_OUT_X0_LOSS(), x0_errors.mean(1), grid_protocol),
    ]
    for column, level in enumerate(levels):
        level_protocol = {"log_snr": level.requested, "log_snr_reached": round(level.reached, 3)}
        at = level.requested
        measures.append(measure(EPS_ERROR(at=at), eps_errors[:, column], level_protocol))
        measures.append(measure(X0_ERROR(at=at), x0_errors[:, column], level_protocol))
    return measures


def noise_levels(schedule: NoiseSchedule, log_snrs: Sequence[float]) -> list[NoiseLevel]:
    """Noise levels of the grid on a schedule.

    Raises:
        ValueError: an empty grid, or two points that fall on one end of the schedule.
    """
    if not log_snrs:
        raise ValueError("the held-out loss needs at least one log-SNR")
    times = schedule.time(torch.tensor(list(log_snrs), dtype=torch.float64)).float()
    reached = schedule.log_snr(times.double()).tolist()
    snapped = [
        _snap(requested, actual) for requested, actual in zip(log_snrs, reached, strict=True)
    ]
    if len(set(snapped)) < len(snapped):
        raise ValueError(
            f"the log-SNRs {list(log_snrs)} reach only {sorted(set(snapped))} on this schedule: "
            "give each point once, and at most one point beyond either end"
        )
    return [
        NoiseLevel(requested=requested, reached=actual, time=time)
        for requested, actual, time in zip(log_snrs, snapped, times, strict=True)
    ]


@torch.no_grad()
def denoising_errors(
    predict_for: PredictFor,
    latents: Latents,
    schedule: NoiseSchedule,
    prediction_type: PredictionType,
    levels: Sequence[NoiseLevel],
    *,
    seed: int,
    batch_size: int,
) -> tuple[Float64[Tensor, "count levels"], Float64[Tensor, "count levels"]]:
    """Squared eps- and x0-errors of every image at every level, averaged over its values."""
    device, eps_rows, x0_rows = latents.device, [], []
    for rows in torch.arange(len(latents)).split(batch_size):
        predict, x0 = predict_for(rows), latents[to_device(rows, device)].float()
        level_errors = []
        for level in levels:
            t = level.time.expand(len(rows))
            alpha, sigma = (to_device(x, device) for x in (schedule.alpha(t), schedule.sigma(t)))
            eps = to_device(torch.stack(list(_noise(x0.shape[1:], seed, rows, level))), device)
            x_t = add_noise(x0, eps, alpha, sigma)
            mean = predict(x_t, to_device(t, device)).mean.double()
            prediction, coefficients = prediction_type, (alpha.double(), sigma.double())
            x0_guess, eps_guess = to_x0_and_eps(prediction, x_t.double(), mean, *coefficients)
            level_errors.append((_error(eps_guess, eps), _error(x0_guess, x0)))
        eps_rows.append(torch.stack([eps_error for eps_error, _ in level_errors], 1))
        x0_rows.append(torch.stack([x0_error for _, x0_error in level_errors], 1))
    return torch.cat(eps_rows).cpu(), torch.cat(x0_rows).cpu()


def _snap(requested: float, reached: float) -> float:
    return float(requested) if abs(requested - reached) < TOLERANCE else reached


def _noise(shape: torch.Size, seed: int, rows: Tensor, level: NoiseLevel) -> Iterator[Tensor]:
    for row in rows.tolist():
        yield normal(tuple(shape), "subset", seed, "denoising", row, f"{level.requested:g}")


def _error(guess: Tensor, truth: Tensor) -> Tensor:
    return (guess - truth.double()).square().flatten(1).mean(1)

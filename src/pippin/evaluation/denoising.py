# SPDX-License-Identifier: Apache-2.0
"""Held-out denoising loss: fixed pictures, fixed noise, a fixed grid of log-SNR.

It costs one evaluation of the network for each picture and grid point, draws no sample, and is
far less noisy than any distance between sets of images. Errors are measured after conversion to
eps and to x0, so models with different prediction types and schedules can be compared: at one
log-SNR, x0-error = eps-error / SNR, whatever the network predicts.
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
from pippin.objective import Predict
from pippin.rng import normal
from pippin.types import Latents

PredictFor = Callable[[Int64[Tensor, " batch"]], Predict]
"""Rows of the latents -> a network that already knows these pictures' conditions."""

TOLERANCE = 1e-3
"""Log-SNR: times are float32, so a grid point is met to about 1e-4."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """One point of the grid."""

    wanted: float
    """The log-SNR that was asked for; it names the measure and keys the noise."""
    reached: float
    """The log-SNR that is measured at: the schedule's nearest end where it has no such point."""
    time: Float[Tensor, ""]
    """What the network is fed."""


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
        latents: normalised latents of held-out pictures.
        schedule: of the model.
        prediction_type: what the network returns.
        log_snrs: the grid. A point beyond the schedule's ends is measured at the end, and the
            protocol says at which log-SNR (``log_snr_reached``).
        seed: of noise and of the bootstrap over pictures.
        batch_size: pictures at a time.
        subject: what the network is.

    Returns:
        ``held-out loss``, the mean of the eps-error over the grid; the same of the x0-error;
        then both errors at every grid point. Intervals are over pictures.

    Raises:
        ValueError: an empty grid, or two points that fall on one end of the schedule.
    """
    levels = grid(schedule, log_snrs)
    eps_errors, x0_errors = errors(
        predict_for, latents, schedule, prediction_type, levels, seed=seed, batch_size=batch_size
    )

    def measure(name: str, values: Tensor, protocol: dict[str, Any]) -> Measure:
        return mean_measure(
            name, values, seed=seed, unit="", better="lower", subject=subject, protocol=protocol
        )

    whole = {
        "log_snrs": [level.wanted for level in levels],
        "log_snrs_reached": [round(level.reached, 3) for level in levels],
    }
    found = [
        measure("held-out loss", eps_errors.mean(1), whole),
        measure("held-out x0 loss", x0_errors.mean(1), whole),
    ]
    for column, level in enumerate(levels):
        point = {"log_snr": level.wanted, "log_snr_reached": round(level.reached, 3)}
        where = f"at log-SNR {level.wanted:g}"
        found.append(measure(f"eps-error {where}", eps_errors[:, column], point))
        found.append(measure(f"x0-error {where}", x0_errors[:, column], point))
    return found


def grid(schedule: NoiseSchedule, log_snrs: Sequence[float]) -> list[Level]:
    """The grid's points on a schedule.

    Raises:
        ValueError: an empty grid, or two points that fall on one end of the schedule.
    """
    if not log_snrs:
        raise ValueError("the held-out loss needs at least one log-SNR")
    times = schedule.time(torch.tensor(list(log_snrs), dtype=torch.float64)).float()
    reached = schedule.log_snr(times.double()).tolist()
    met = [_met(wanted, end) for wanted, end in zip(log_snrs, reached, strict=True)]
    if len(set(met)) < len(met):
        raise ValueError(
            f"the log-SNRs {list(log_snrs)} reach only {sorted(set(met))} on this schedule: ask "
            "for each point once, and for one point at most beyond either end"
        )
    return [
        Level(wanted=wanted, reached=end, time=time)
        for wanted, end, time in zip(log_snrs, met, times, strict=True)
    ]


@torch.no_grad()
def errors(
    predict_for: PredictFor,
    latents: Latents,
    schedule: NoiseSchedule,
    prediction_type: PredictionType,
    levels: Sequence[Level],
    *,
    seed: int,
    batch_size: int,
) -> tuple[Float64[Tensor, "count levels"], Float64[Tensor, "count levels"]]:
    """Squared eps- and x0-errors of every picture at every level, averaged over its values."""
    eps_rows, x0_rows = [], []
    for rows in torch.arange(len(latents)).split(batch_size):
        predict, x0 = predict_for(rows), latents[rows.to(latents.device)].float()
        found = []
        for level in levels:
            t = level.time.to(x0.device).expand(len(rows))
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            eps = torch.stack(list(_noise(x0.shape[1:], seed, rows, level))).to(x0.device)
            x_t = add_noise(x0, eps, alpha, sigma)
            mean = predict(x_t, t).mean.double()
            kind, wide = prediction_type, (alpha.double(), sigma.double())
            x0_guess, eps_guess = to_x0_and_eps(kind, x_t.double(), mean, *wide)
            found.append((_error(eps_guess, eps), _error(x0_guess, x0)))
        eps_rows.append(torch.stack([eps_error for eps_error, _ in found], 1))
        x0_rows.append(torch.stack([x0_error for _, x0_error in found], 1))
    return torch.cat(eps_rows).cpu(), torch.cat(x0_rows).cpu()


def _met(wanted: float, reached: float) -> float:
    return float(wanted) if abs(wanted - reached) < TOLERANCE else reached


def _noise(shape: torch.Size, seed: int, rows: Tensor, level: Level) -> Iterator[Tensor]:
    for row in rows.tolist():
        yield normal(tuple(shape), "subset", seed, "denoising", row, f"{level.wanted:g}")


def _error(guess: Tensor, truth: Tensor) -> Tensor:
    return (guess - truth.double()).square().flatten(1).mean(1)

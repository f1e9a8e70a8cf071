# SPDX-License-Identifier: Apache-2.0
"""The training objective: how a batch is noised, what is predicted, how the error is weighed."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from pippin import rng
from pippin.conditioning.config import ConditioningConfig
from pippin.conditioning.drop import draw_keep
from pippin.diffusion.config import DiffusionConfig
from pippin.diffusion.prediction import add_noise, target
from pippin.diffusion.schedules import make_schedule
from pippin.diffusion.times import draw_times
from pippin.diffusion.weights import loss_weight
from pippin.types import Keep, Latents, Prediction, Times

Predict = Callable[[Latents, Times], Prediction]


@dataclass(frozen=True, kw_only=True)
class Draws:
    """The random numbers of one step, for the global batch."""

    t: Times
    noise: Latents
    keep: Keep


def draw_step(
    diffusion: DiffusionConfig,
    conditioning: ConditioningConfig,
    shape: tuple[int, ...],
    *,
    seed: int,
    step: int,
) -> Draws:
    """All draws of a training step; they depend on seed and step only.

    Args:
        shape: (batch, channels, height, width) of the global batch's latents.
    """
    batch = shape[0]
    num_fields = len(conditioning.control.high) + len(conditioning.control.low)
    drops = rng.uniform((batch, 1 + num_fields), "drop", seed, step)
    times = rng.uniform((batch,), "time", seed, step)
    return Draws(
        t=draw_times(diffusion.time_density, times, make_schedule(diffusion.schedule)),
        noise=rng.normal(shape, "noise", seed, step),
        keep=draw_keep(conditioning, drops[:, 0], drops[:, 1:]),
    )


class Objective:
    """Squared error of the prediction, weighted, one number per image."""

    def __init__(self, config: DiffusionConfig) -> None:
        self.config = config
        self.schedule = make_schedule(config.schedule)

    def __call__(
        self, predict: Predict, latents: Latents, t: Times, noise: Latents
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Named losses per image: x_t = alpha x_0 + sigma eps is made here.

        Args:
            latents: normalised, x_0.
            t: best left on the CPU, where its range is checked without waiting for a GPU.
            noise: eps, standard normal, beside ``latents``.
        """
        device = latents.device
        alpha, sigma = self.schedule.alpha(t).to(device), self.schedule.sigma(t).to(device)
        prediction = predict(add_noise(latents, noise, alpha, sigma), t.to(device))
        wanted = target(self.config.prediction, latents, noise, alpha, sigma)
        error = (prediction.mean.float() - wanted).square().mean(dim=(1, 2, 3))
        weight = loss_weight(self.config.loss_weight, self.config.prediction, self.schedule, t)
        return {"mse": error * weight.to(device)}

# SPDX-License-Identifier: Apache-2.0
"""The training objective: how a batch is noised, what is predicted, how the error is weighed."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from pippin import rng
from pippin.conditioning.config import ConditioningConfig
from pippin.conditioning.drop import draw_keep
from pippin.config import ConfigError
from pippin.denoisers.config import DenoiserConfig, learns_variance
from pippin.diffusion.config import DiffusionConfig
from pippin.diffusion.posterior import Step, training_step, variational_bound
from pippin.diffusion.prediction import add_noise, target, to_x0_and_eps
from pippin.diffusion.rescale import build_schedule
from pippin.diffusion.times import draw_times
from pippin.diffusion.weights import loss_weight
from pippin.system.device import to_device
from pippin.types import Keep, Latents, Masking, Prediction, Times

Predict = Callable[[Latents, Times], Prediction]
Losses = dict[str, Float[Tensor, " batch"]]
"""Named losses, one number an image; their sum is what is trained."""


@dataclass(frozen=True, kw_only=True)
class Draws:
    """The random numbers of one step, for the global batch."""

    t: Times
    noise: Latents
    keep: Keep
    masking: Masking | None = None
    """Of a denoiser that has a masked pass."""

    def rows(self, rows: slice) -> "Draws":
        """Those of some of the images."""
        masking = self.masking
        if masking is not None:
            masking = Masking(order=masking.order[rows], ratio=masking.ratio)
        return Draws(
            t=self.t[rows], noise=self.noise[rows], keep=self.keep.rows(rows), masking=masking
        )


def draw_step(
    diffusion: DiffusionConfig,
    conditioning: ConditioningConfig,
    shape: tuple[int, ...],
    *,
    num_maskable: int = 0,
    seed: int,
    step: int,
) -> Draws:
    """All draws of a training step; they depend on seed and step only.

    Args:
        shape: (batch, channels, height, width) of the global batch's latents.
        num_maskable: how many tokens of an image the denoiser's masked pass shuffles.
    """
    batch = shape[0]
    num_fields = len(conditioning.control.high) + len(conditioning.control.low)
    drops = rng.uniform((batch, 1 + num_fields), "drop", seed, step)
    times = rng.uniform((batch,), "time", seed, step)
    return Draws(
        t=draw_times(diffusion.time_density, times, build_schedule(diffusion)),
        noise=rng.normal(shape, "noise", seed, step),
        keep=draw_keep(conditioning, drops[:, 0], drops[:, 1:]),
        masking=_draw_masking(batch, num_maskable, seed, step) if num_maskable else None,
    )


def _draw_masking(batch: int, num_maskable: int, seed: int, step: int) -> Masking:
    """A shuffle for each image, and one ratio for all: they must keep equally many tokens."""
    ratio = rng.uniform((1,), "mask", seed, step, "ratio").item()
    return Masking(order=rng.uniform((batch, num_maskable), "mask", seed, step), ratio=ratio)


class Objective:
    """Squared error of the prediction, weighted, one number per image.

    Where the network learns a variance, the variational bound trains it beside (the hybrid loss
    of Nichol & Dhariwal 2021, section 3.1, with their weight 0.001 times the 1000 indices). Where
    it gives a second prediction, that one's losses are added, named ``aux``.
    """

    def __init__(self, config: DiffusionConfig) -> None:
        self.config = config
        self.schedule = build_schedule(config)

    def __call__(self, predict: Predict, latents: Latents, t: Times, noise: Latents) -> Losses:
        """Named losses per image: x_t = alpha x_0 + sigma eps is made here.

        Args:
            latents: normalised, x_0.
            t: best left on the CPU, where its range is checked without waiting for a GPU.
            noise: eps, standard normal, beside ``latents``.
        """
        device = latents.device
        alpha = to_device(self.schedule.alpha(t), device)
        sigma = to_device(self.schedule.sigma(t), device)
        kind = self.config.prediction
        x_t = add_noise(latents, noise, alpha, sigma)
        prediction = predict(x_t, to_device(t, device))
        wanted = target(kind, latents, noise, alpha, sigma)
        weight = loss_weight(self.config.loss_weight, kind, self.schedule, t)
        weight = to_device(weight, device)

        def losses(of: Prediction) -> Losses:
            mean = of.mean.float()
            found = {"mse": (mean - wanted).square().mean(dim=(1, 2, 3)) * weight}
            if of.variance is not None:
                step = Step(*(to_device(x, device) for x in training_step(self.schedule, t)))
                x0_guess, _ = to_x0_and_eps(kind, x_t, mean.detach(), alpha, sigma)
                found["vlb"] = variational_bound(
                    step, to_device(t == 0, device), latents, x_t, x0_guess, of.variance
                )
            return found

        found = losses(prediction)
        if prediction.aux is not None:
            found |= {f"aux {name}": loss for name, loss in losses(prediction.aux).items()}
        return found


def check_objective(diffusion: DiffusionConfig, denoiser: DenoiserConfig) -> None:
    """Refuse a learned variance where no step back is defined.

    Raises:
        ConfigError: rectified flow.
    """
    if learns_variance(denoiser) and diffusion.schedule == "flow":
        raise ConfigError(
            "denoiser.learn_variance True needs a schedule of 1000 indices (sd, ldm-f4, ddpm, "
            "cosine); diffusion.schedule flow has no step back whose variance could be learned"
        )

# SPDX-License-Identifier: Apache-2.0
"""Losses of a prediction, one number per image."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from pippin.diffusion.config import AdaptiveWeight, DiffusionConfig
from pippin.diffusion.posterior import Step, training_step, variational_bound
from pippin.diffusion.prediction import (
    adaptive_weight,
    add_noise,
    direction_error,
    loss_weight,
    mean_of_values,
    target,
    to_x0_and_eps,
)
from pippin.diffusion.rescale import build_schedule
from pippin.system.device import to_device
from pippin.types import KeptTokens, Latents, Prediction, Times

Predict = Callable[[Latents, Times], Prediction]
Retarget = Callable[[Latents, Latents], Latents]
"""(x_t, target of the prediction type) -> the target that is learnt instead."""
Losses = dict[str, Float[Tensor, " batch"]]
"""Named losses, one number per image; training minimises their sum."""


class Objective:
    """Weighted squared error of the prediction, one number per image.

    If the network learns a variance, the variational bound is added to train it (the hybrid loss
    of Nichol & Dhariwal 2021, section 3.1, with their weight 0.001 times the 1000 indices). With a
    direction weight, the direction loss is added (LightningDiT, Yao et al. 2025). If the network
    returns a second prediction, the losses of that are added, named ``aux``. Losses of a masked
    prediction are means over the latents of kept tokens.
    """

    def __init__(self, config: DiffusionConfig) -> None:
        self.config = config
        self.schedule = build_schedule(config)

    def __call__(
        self,
        predict: Predict,
        latents: Latents,
        t: Times,
        noise: Latents,
        retarget: Retarget | None = None,
        logged: dict[str, Tensor] | None = None,
    ) -> Losses:
        """Named losses per image, for x_t = alpha x_0 + sigma eps.

        Args:
            latents: normalised, x_0.
            t: preferably on the CPU, where its range is checked without a GPU synchronisation.
            noise: eps, standard normal, on the device of ``latents``.
            retarget: replaces the target (MeanFlow).
            logged: gets the mean ``squared_error`` where the weight depends on it.
        """
        device = latents.device
        alpha = to_device(self.schedule.alpha(t), device)
        sigma = to_device(self.schedule.sigma(t), device)
        kind = self.config.prediction
        x_t = add_noise(latents, noise, alpha, sigma)
        expected = target(kind, latents, noise, alpha, sigma)
        expected = expected if retarget is None else retarget(x_t, expected)
        prediction = predict(x_t, to_device(t, device))

        def losses(output: Prediction) -> Losses:
            mean = output.mean.float()
            mask = None if output.kept is None else output.kept.latents
            error = mean_of_values((mean - expected).square(), mask)
            num_values = _num_values(latents, output.kept)
            named_losses = {"mse": self._weighted(error, num_values, t, logged)}
            if self.config.direction_weight:
                direction = mean_of_values(direction_error(mean, expected), mask)
                named_losses["direction"] = self.config.direction_weight * direction
            if output.variance is not None:
                step = Step(*(to_device(x, device) for x in training_step(self.schedule, t)))
                x0_guess, _ = to_x0_and_eps(kind, x_t, mean.detach(), alpha, sigma)
                named_losses["vlb"] = variational_bound(
                    step, to_device(t == 0, device), latents, x_t, x0_guess, output.variance, mask
                )
            return named_losses

        named_losses = losses(prediction)
        if prediction.aux is not None:
            named_losses |= {f"aux {name}": loss for name, loss in losses(prediction.aux).items()}
        return named_losses

    def _weighted(
        self,
        error: Float[Tensor, " batch"],
        num_values: int,
        t: Times,
        logged: dict[str, Tensor] | None,
    ) -> Float[Tensor, " batch"]:
        """Mean squared error of each image, over ``num_values`` values, with the loss weight."""
        config = self.config.loss_weight
        if isinstance(config, AdaptiveWeight):
            if logged is not None:
                logged.setdefault("squared_error", error.detach().mean())
            return error * adaptive_weight(config, error, num_values)
        weight = loss_weight(config, self.config.prediction, self.schedule, t)
        return error * to_device(weight, error.device)


def _num_values(latents: Latents, kept: KeptTokens | None) -> int:
    """Number of values of an image that its loss counts."""
    num_values = latents[0].numel()
    return num_values if kept is None else num_values * kept.index.shape[1] // kept.num_tokens

# SPDX-License-Identifier: Apache-2.0
"""Training objective: noising of a batch, prediction target and loss weight."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pippin import rng
from pippin.conditioning.config import ConditioningConfig
from pippin.conditioning.drop import draw_keep
from pippin.config import ConfigError
from pippin.denoisers.config import DenoiserConfig, learns_variance
from pippin.diffusion.config import CONTINUOUS_SCHEDULES, AdaptiveWeight, DiffusionConfig
from pippin.diffusion.meanflow import (
    MeanVelocity,
    guided_velocity,
    interval_rows,
    mean_velocity_target,
    ordered_interval,
    velocity_of,
)
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
from pippin.diffusion.times import draw_times
from pippin.model import LatentDenoiser
from pippin.nn.masking import gather_tokens
from pippin.system.device import autocast, to_device
from pippin.training.repa.config import NO_REPA, RepaConfig
from pippin.types import (
    Batch,
    Conditions,
    Keep,
    KeptTokens,
    Latents,
    Masking,
    Prediction,
    Times,
)

Predict = Callable[[Latents, Times], Prediction]
Retarget = Callable[[Latents, Latents], Latents]
"""(x_t, target of the prediction type) -> the target that is learnt instead."""
Losses = dict[str, Float[Tensor, " batch"]]
"""Named losses, one number per image; training minimises their sum."""


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Random numbers of one training step, for the global batch."""

    t: Times
    noise: Latents
    keep: Keep
    masking: Masking | None = None
    """Random masking, for a denoiser with a masked pass or deferred masking."""
    interval: Times | None = None
    """t - r of MeanFlow, 0 = flow matching."""

    def rows(self, rows: slice) -> "Draws":
        """Random numbers of a subset of the images."""
        return Draws(
            t=self.t[rows],
            noise=self.noise[rows],
            keep=self.keep.rows(rows),
            masking=self.masking and self.masking.rows(rows),
            interval=None if self.interval is None else self.interval[rows],
        )


def draw_step(
    diffusion: DiffusionConfig,
    conditioning: ConditioningConfig,
    shape: tuple[int, ...],
    *,
    num_shuffled: int = 0,
    mask_ratio: float = 0.0,
    seed: int,
    step: int,
) -> Draws:
    """All random numbers of a training step; they depend on seed and step only.

    Args:
        shape: (batch, channels, height, width) of the global batch's latents.
        num_shuffled: number of tokens per image that the denoiser shuffles.
        mask_ratio: share of them that deferred masking hides; 0 = the denoiser's own masked pass.
    """
    batch = shape[0]
    num_fields = len(conditioning.control.high) + len(conditioning.control.low)
    masking = _draw_masking(batch, num_shuffled, seed, step) if num_shuffled else None
    if masking is not None and mask_ratio:
        masking = replace(masking, hidden_share=mask_ratio)
    drops = rng.uniform((batch, 1 + num_fields), "drop", seed, step)
    t, interval = _draw_interval(diffusion, batch, seed, step)
    return Draws(
        t=t,
        noise=rng.normal(shape, "noise", seed, step),
        keep=draw_keep(conditioning, drops[:, 0], drops[:, 1:]),
        masking=masking,
        interval=interval,
    )


def _draw_interval(
    diffusion: DiffusionConfig, batch: int, seed: int, step: int
) -> tuple[Times, Times | None]:
    """Times, and the intervals that end there with MeanFlow."""
    schedule, density = build_schedule(diffusion), diffusion.time_density
    first = draw_times(density, rng.uniform((batch,), "time", seed, step), schedule)
    if not diffusion.meanflow.enabled:
        return first, None
    uniforms = rng.uniform((batch + 1,), "time", seed, step, "interval")
    second = draw_times(density, uniforms[1:], schedule)
    rows = interval_rows(diffusion.meanflow.share, batch, uniforms[0].item())
    return ordered_interval(first, second, rows)


def _draw_masking(batch: int, num_shuffled: int, seed: int, step: int) -> Masking:
    """Shuffle of each image, and one ratio for all, which must keep equally many tokens."""
    position = rng.uniform((1,), "mask", seed, step, "ratio").item()
    order = rng.uniform((batch, num_shuffled), "mask", seed, step)
    return Masking(order=order, ratio_position=position)


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


Features = Float[Tensor, "batch features rows columns"]


def normalise_over_tokens(features: Features, share: float) -> Features:
    """Spatial normalisation of iREPA: each feature loses ``share`` times its mean over the tokens
    of its image and is divided by its deviation over them (n - 1), plus 1e-6."""
    deviation, mean = torch.std_mean(features, dim=(2, 3), keepdim=True)
    return (features - share * mean) / (deviation + 1e-6)


def repa_loss(
    projected: Float[Tensor, "batch tokens features"],
    features: Features,
    kept: KeptTokens | None = None,
) -> Float[Tensor, " batch"]:
    """Negative cosine similarity of projected tokens and an encoder's features, the mean over the
    tokens of each image, in fp32 (Yu et al. 2024, arXiv 2410.06940, eq. 8).

    Args:
        projected: all tokens in raster order, or the kept ones.
        features: of all tokens.
        kept: which tokens are projected; None = all.
    """
    targets = features.float().flatten(2).transpose(1, 2)
    targets = targets if kept is None else gather_tokens(targets, kept.index)
    return -F.cosine_similarity(projected.float(), targets, dim=-1).mean(dim=1)


class BatchLoss(nn.Module):
    """Loss of some rows of a batch: conditions, noise, model and loss in one forward pass, as one
    module, so that the hooks of DDP and FSDP see every parameter's use.

    Args:
        model: on its device; with a projector if REPA is on.
        objective: the loss.
        precision: of the forward pass, see :class:`pippin.training.config.TrainConfig`.
        repa: the auxiliary loss, which is added times its weight.
    """

    def __init__(
        self,
        model: LatentDenoiser,
        objective: Objective,
        precision: str,
        repa: RepaConfig = NO_REPA,
    ) -> None:
        super().__init__()
        self.model, self.objective, self.precision, self.repa = model, objective, precision, repa
        self.logged: dict[str, Tensor] = {}
        """Parts of the last loss that are logged by themselves, before their weights: ``repa``,
        and the ``squared_error`` that has an adaptive weight."""

    def forward(self, batch: Batch, draws: Draws) -> Float[Tensor, ""]:
        """Mean loss of the rows.

        Args:
            batch: some rows.
            draws: random numbers of the same rows.
        """
        device = next(self.model.parameters()).device
        masking = None if draws.masking is None else draws.masking.to(device)
        interval = None if draws.interval is None else to_device(draws.interval, device)
        predictions: list[Prediction] = []
        self.logged = {}
        with autocast(device, self.precision):
            prepared = self.model.prepare(batch.conditions, draws.keep)

            def predict(x_t: Latents, t: Times) -> Prediction:
                predictions.append(self.model(x_t, t, prepared, masking, interval))
                return predictions[-1]

            losses = self.objective(
                predict,
                to_device(batch.latents, device),
                draws.t,
                to_device(draws.noise, device),
                None if interval is None else partial(self._retargeted, batch, draws),
                self.logged,
            )
            if self.repa.enabled:
                losses["repa"] = self._aligned(predictions[0], batch.features, device)
        return torch.stack([loss.mean() for loss in losses.values()]).sum()

    def _retargeted(self, batch: Batch, draws: Draws, x_t: Latents, velocity: Latents) -> Latents:
        """Target of MeanFlow, from the network itself and without gradient.

        Rows without an interval keep their velocity. At least one row is computed, so that all
        ranks call the network equally often, as sharded weights need it.
        """
        assert draws.interval is not None
        t, interval = (to_device(x, x_t.device) for x in (draws.t, draws.interval))
        if self.objective.config.meanflow.guided:
            velocity = self._guided(batch.conditions, draws.keep, x_t, velocity, t)
        chosen = draws.interval.nonzero().flatten()
        chosen = chosen if len(chosen) else torch.zeros(1, dtype=torch.long)
        network = self._mean_velocity(batch.conditions.rows(chosen), draws.keep.rows(chosen))
        rows = to_device(chosen, x_t.device)
        inputs = (x[rows] for x in (x_t, t, interval, velocity))
        return velocity.index_copy(0, rows, mean_velocity_target(network, *inputs))

    def _guided(
        self, conditions: Conditions, keep: Keep, x_t: Latents, velocity: Latents, t: Times
    ) -> Latents:
        """Guided velocity of rows that keep their semantics; v of the others."""
        dropped = torch.zeros_like(keep.semantic)
        conditional, unconditional = (
            velocity_of(self._mean_velocity(conditions, kept), x_t, t)
            for kept in (keep, Keep(semantic=dropped, control=dropped))
        )
        config = self.objective.config.meanflow
        guided = guided_velocity(config, velocity, conditional, unconditional, t)
        kept_rows = to_device(keep.semantic, x_t.device)[:, None, None, None]
        return torch.where(kept_rows, guided, velocity)

    def _mean_velocity(self, conditions: Conditions, keep: Keep) -> MeanVelocity:
        """The network's mean velocity under these conditions, to be called without gradients."""

        def mean_velocity(z: Latents, t: Times, interval: Times) -> Latents:
            with autocast(z.device, self.precision, cache=False):
                prepared = self.model.prepare(conditions, keep)
                return self.model(z, t, prepared, None, interval).mean.float()

        return mean_velocity

    def _aligned(
        self, prediction: Prediction, features: Features | None, device: torch.device
    ) -> Float[Tensor, " batch"]:
        """REPA's loss of each image, times its weight.

        Raises:
            ValueError: no projector, tokens or features, or other numbers of them.
        """
        projector, hidden, kept = self.model.projector, prediction.hidden, prediction.kept
        if projector is None or hidden is None or features is None:
            raise ValueError(
                "train.repa needs a model with a projector, a denoiser that returns the tokens of "
                "its aligned block, and batches with features: got "
                f"{[x is not None for x in (projector, hidden, features)]}; build the trainer and "
                "its loader with pippin.training.train"
            )
        grid = (features.shape[2], features.shape[3])
        num_tokens = hidden.shape[1] if kept is None else kept.num_tokens
        if num_tokens != grid[0] * grid[1]:
            raise ValueError(
                f"the denoiser has {num_tokens} tokens, and the features a grid of "
                f"{grid[0]} x {grid[1]}; both must be of the same views"
            )
        features = to_device(features, device).float()
        if self.repa.spatial_norm is not None:
            features = normalise_over_tokens(features, self.repa.spatial_norm)
        loss = repa_loss(projector(hidden, grid), features, kept)
        self.logged["repa"] = loss.detach().mean()
        return self.repa.weight * loss


def check_objective(diffusion: DiffusionConfig, denoiser: DenoiserConfig) -> None:
    """Refuse a learned variance for a schedule without ancestral steps.

    Raises:
        ConfigError: a schedule without indices.
    """
    if learns_variance(denoiser) and diffusion.schedule in CONTINUOUS_SCHEDULES:
        raise ConfigError(
            "denoiser.learn_variance True needs a schedule of 1000 indices (sd, ldm-f4, ddpm, "
            f"cosine); diffusion.schedule {diffusion.schedule} has no ancestral step with a "
            "variance to learn"
        )


def check_meanflow(
    diffusion: DiffusionConfig, conditioning: ConditioningConfig, denoiser: DenoiserConfig
) -> None:
    """Refuse mean velocities without the embedding of their interval, the embedding without them,
    and guidance in the target by conditions that are never dropped.

    Raises:
        ConfigError: naming the settings.
    """
    meanflow, drop = diffusion.meanflow, conditioning.drop
    if meanflow.enabled != conditioning.interval:
        # Of times in [0, 1000], as most networks read them, du/dt is a thousand times as large.
        reads_noise = getattr(denoiser, "time_input", "data") == "noise"
        time_input = " --denoiser.time-input data" if reads_noise else ""
        raise ConfigError(
            "diffusion.meanflow.share above 0 and conditioning.interval True, the embedding of "
            f"t - r, need each other; got {meanflow.share:g} and {conditioning.interval}: set "
            f"--diffusion.meanflow.share 0.25 --conditioning.interval True{time_input}, or leave "
            "out both"
        )
    if not meanflow.guided:
        return
    has_control = bool(conditioning.control.high or conditioning.control.low)
    dropped = drop.both if has_control else drop.semantic + drop.both
    if not conditioning.rules or not dropped > 0:
        share = "both" if has_control else "semantic"
        raise ConfigError(
            f"diffusion.meanflow.omega {meanflow.omega:g} and kappa {meanflow.kappa:g} guide by "
            f"semantics that training drops; here conditioning.drop.{share} is {dropped:g} and "
            f"conditioning.rules are {dict(conditioning.rules)}: set --conditioning.drop.{share} "
            "0.1 and keep 0.9, or omega 1 and kappa 0"
        )

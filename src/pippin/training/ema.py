# SPDX-License-Identifier: Apache-2.0
"""Moving averages of the weights, counted in images: exponential ones, and power functions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from pippin.distributed.sharded_tensors import gather_full_tensors, shard_like
from pippin.distributed.world import World
from pippin.model import LatentDenoiser, sampled_parameters
from pippin.training.averaging.config import Average, ImagesHalfLife, PowerProfile, ShareHalfLife
from pippin.training.averaging.profiles import gamma_of
from pippin.training.config import TrainConfig

RAMP = 0.1
"""Upper bound of the half-life as a share of the images seen, so that initial weights fade."""


def half_life_images(config: ImagesHalfLife | ShareHalfLife, total_images: int) -> float:
    """Half-life in images, for a run of a given length."""
    return config.images if isinstance(config, ImagesHalfLife) else config.share * total_images


class EMA:
    """Exponential moving averages of all parameters that sampling uses, in fp32.

    After a step that ends at n images with batch b, average <- d average + (1 - d) weights with
    d = 0.5 ** (b / min(half_life, RAMP n)): the same curve at every batch size (Karras et al.
    2024, appendix A, count it in the same way).
    """

    half_life: float | None
    """In images; None for an average without one."""

    def __init__(self, model: nn.Module, half_life: float | None) -> None:
        self.half_life = half_life
        self.weights: dict[str, Tensor] = {
            name: p.detach().to(torch.float32, copy=True) for name, p in sampled_parameters(model)
        }

    @torch.no_grad()
    def update(self, model: nn.Module, *, batch_size: int, images_seen: int) -> None:
        """Update the averages after one step."""
        weight = self.step_weight(batch_size, images_seen)
        current = [p.float() for _, p in sampled_parameters(model)]  # itself in fp32
        torch._foreach_lerp_(list(self.weights.values()), current, weight)

    def step_weight(self, batch_size: int, images_seen: int) -> float:
        """Weight of the current weights in the average after a step."""
        assert self.half_life is not None
        return 1 - 0.5 ** (batch_size / min(self.half_life, RAMP * images_seen))

    @torch.no_grad()
    def restore(self, weights: dict[str, Tensor]) -> None:
        """Load saved averages, in any order.

        Raises:
            ValueError: names differ from the model's parameters.
        """
        if set(weights) != set(self.weights):
            different = sorted(set(weights) ^ set(self.weights))
            raise ValueError(f"saved EMA and model differ in the parameters {different[:5]}")
        for name, average in self.weights.items():
            average.copy_(shard_like(weights[name], average))

    @contextmanager
    def swapped_into(self, model: nn.Module) -> Iterator[None]:
        """Swap in the averaged weights; on exit, restore the model's own bit for bit."""
        parameters = dict(sampled_parameters(model))
        original = {name: p.detach().clone() for name, p in parameters.items()}
        try:
            _copy(self.weights, parameters)
            yield
        finally:
            _copy(original, parameters)


class PowerEMA(EMA):
    """Power-function averages (Karras et al. 2024, arXiv 2312.02696, eq. 3).

    After a step of b images that ends at n images, average <- d average + (1 - d) weights with
    d = (1 - b / n) ** (gamma + 1). The first step sets the average. The weights of each step then
    count by the integral of the profile over the images of the step, at every batch size. A
    skipped step changes nothing; its share goes to the other steps.
    """

    def __init__(self, model: nn.Module, sigma_rel: float) -> None:
        super().__init__(model, None)
        self.gamma = gamma_of(sigma_rel)

    def step_weight(self, batch_size: int, images_seen: int) -> float:
        """See :meth:`EMA.step_weight`."""
        return 1 - (1 - batch_size / images_seen) ** (self.gamma + 1)


def build_average(model: nn.Module, config: Average, total_images: int) -> EMA:
    """Build an average of a model at image 0, for a run of a given length."""
    if isinstance(config, PowerProfile):
        return PowerEMA(model, config.sigma_rel)
    return EMA(model, half_life_images(config, total_images))


def build_averages(model: nn.Module, config: TrainConfig) -> dict[str, EMA]:
    """Build all averages of a run by name, ``ema`` first."""
    return {
        name: build_average(model, average, config.images)
        for name, average in config.averages.items()
    }


@torch.no_grad()
def _copy(source: dict[str, Tensor], target: dict[str, nn.Parameter]) -> None:
    for name, parameter in target.items():
        parameter.copy_(source[name])


@contextmanager
def averaged_model(
    model: LatentDenoiser, ema: EMA, world: World, build: Callable[[], LatentDenoiser]
) -> Iterator[LatentDenoiser | None]:
    """The model with the averaged weights on rank 0; None on other ranks, which must take part if
    the weights are sharded.

    Args:
        model: the trained model; its own weights are back on exit.
        ema: its average.
        world: the ranks.
        build: builds a model of the same shape, for weights gathered from all ranks.
    """
    if not any(isinstance(weight, DTensor) for weight in ema.weights.values()):
        with ema.swapped_into(model) if world.is_rank0 else nullcontext():
            yield model if world.is_rank0 else None
        return
    weights = gather_full_tensors(ema.weights, keep=world.is_rank0)
    built = build() if world.is_rank0 else None
    if built is not None:
        built.load_state_dict(weights)
    yield built

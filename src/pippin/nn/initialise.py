# SPDX-License-Identifier: Apache-2.0
"""Initial weights, drawn for each parameter from a stream of its own name.

Two models that share a layer under the same name start with the same weights there, whatever
else differs: the arms of a study are paired from the first step.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from pippin.rng import generator

Init = Callable[[Tensor, torch.Generator], object]
"""Fills a CPU tensor in place."""


def zeros(tensor: Tensor, _: torch.Generator) -> None:
    """All 0."""
    tensor.zero_()


def ones(tensor: Tensor, _: torch.Generator) -> None:
    """All 1."""
    tensor.fill_(1.0)


def xavier(tensor: Tensor, draws: torch.Generator) -> None:
    """Uniform with the variance of Glorot & Bengio (2010)."""
    nn.init.xavier_uniform_(tensor, generator=draws)


def fan_in_uniform(tensor: Tensor, draws: torch.Generator) -> None:
    """Uniform in +-1 / sqrt(inputs of a number), torch's own start of convolutions."""
    bound = (tensor[0].numel()) ** -0.5
    tensor.uniform_(-bound, bound, generator=draws)


def normal(std: float) -> Init:
    """Normal with mean 0."""

    def fill(tensor: Tensor, draws: torch.Generator) -> None:
        tensor.normal_(0.0, std, generator=draws)

    return fill


class Linear(nn.Linear):
    """A linear layer that says how its weight starts; its bias starts at 0."""

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = True, init: Init = xavier
    ) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self.inits: dict[str, Init] = {"weight": init, "bias": zeros}


class Conv2d(nn.Conv2d):
    """A convolution that says how its weight starts; its bias starts at 0.

    Args:
        size: side of the kernel; the padding keeps height and width at stride 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int,
        *,
        stride: int = 1,
        init: Init = fan_in_uniform,
    ) -> None:
        super().__init__(in_channels, out_channels, size, stride=stride, padding=size // 2)
        self.inits: dict[str, Init] = {"weight": init, "bias": zeros}


class GroupNorm(nn.GroupNorm):
    """Group normalisation with a gain that starts at 1 and a bias that starts at 0."""

    inits: ClassVar[dict[str, Init]] = {"weight": ones, "bias": zeros}


class LayerNorm(nn.LayerNorm):
    """Layer norm with a gain that starts at 1 and a bias that starts at 0."""

    inits: ClassVar[dict[str, Init]] = {"weight": ones, "bias": zeros}


@torch.no_grad()
def initialise(model: nn.Module, seed: int) -> None:
    """Draw every parameter of a model anew, from stream ("init", seed, parameter name).

    Each module that owns parameters says in its dictionary ``inits`` how each starts.

    Raises:
        ValueError: a parameter whose module does not say so.
    """
    for module_name, module in model.named_modules():
        inits = getattr(module, "inits", {})
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{module_name}.{name}" if module_name else name
            if name not in inits:
                raise ValueError(
                    f"{full}: {type(module).__name__} does not say how it starts; give it a "
                    "dictionary `inits`, or use the layers of pippin.nn.initialise"
                )
            value = torch.empty(parameter.shape, dtype=torch.float32)
            inits[name](value, generator("init", seed, full))
            parameter.copy_(value)

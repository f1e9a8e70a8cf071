# SPDX-License-Identifier: Apache-2.0
"""Weight initialisation, with one random stream per parameter name.

Two models that share a layer under the same name get the same initial weights there, whatever
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
    """Fill with 0."""
    tensor.zero_()


def ones(tensor: Tensor, _: torch.Generator) -> None:
    """Fill with 1."""
    tensor.fill_(1.0)


def xavier(tensor: Tensor, draws: torch.Generator) -> None:
    """Xavier uniform (Glorot & Bengio 2010)."""
    nn.init.xavier_uniform_(tensor, generator=draws)


def fan_in_uniform(tensor: Tensor, draws: torch.Generator) -> None:
    """Uniform in +-1 / sqrt(fan in), torch's default for convolutions."""
    bound = (tensor[0].numel()) ** -0.5
    tensor.uniform_(-bound, bound, generator=draws)


def normal(std: float) -> Init:
    """Normal with mean 0."""

    def fill(tensor: Tensor, draws: torch.Generator) -> None:
        tensor.normal_(0.0, std, generator=draws)

    return fill


class Linear(nn.Linear):
    """Linear layer with a declared weight initialisation; its bias starts at 0."""

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = True, init: Init = xavier
    ) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self.inits: dict[str, Init] = {"weight": init, "bias": zeros}


class Conv2d(nn.Conv2d):
    """Convolution with a declared weight initialisation; its bias starts at 0.

    Args:
        size: kernel size; the padding keeps height and width at stride 1.
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
    """Initialise every parameter of a model from stream ("init", seed, parameter name).

    Each module that owns parameters declares their initialisation in its dictionary ``inits``.

    Raises:
        ValueError: a parameter without a declared initialisation.
    """
    for module_name, module in model.named_modules():
        inits = getattr(module, "inits", {})
        for name, parameter in module.named_parameters(recurse=False):
            full_name = f"{module_name}.{name}" if module_name else name
            if name not in inits:
                raise ValueError(
                    f"{full_name}: {type(module).__name__} declares no initialisation; give it a "
                    "dictionary `inits`, or use the layers of pippin.nn.initialise"
                )
            value = torch.empty(parameter.shape, dtype=torch.float32)
            inits[name](value, generator("init", seed, full_name))
            parameter.copy_(value)

# SPDX-License-Identifier: Apache-2.0
"""Muon optimizer: momentum with nearly orthogonalised update matrices.

Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon), with the step size of Liu et al.
2025 (arXiv 2502.16982, eq. 4), which gives a step the root mean square of Adam's. A convolution's
weight is one matrix, output channels times the rest. On GPUs the Newton-Schulz iteration computes
in bf16, as published; a CPU computes it in fp32.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pippin.system.sharded_tensors import full_tensor, shard_like

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""a, b, c of Jordan's quintic: five iterations bring singular values to about 0.7 .. 1.2."""
ITERATIONS = 5
STEP_SIZE = 0.2
"""Liu et al.'s factor, about the root mean square of Adam's steps."""


def iteration_dtype(device: torch.device) -> torch.dtype | None:
    """Data type of the iteration on a device; None = that of the matrix."""
    return torch.bfloat16 if device.type == "cuda" else None


def orthogonalise(
    matrix: Float[Tensor, "rows columns"], dtype: torch.dtype | None = None
) -> Float[Tensor, "rows columns"]:
    """Approximation of U V^T for the singular value decomposition U S V^T.

    It iterates X <- a X + (b A + c A A) X with A = X X^T; the smaller side comes first, to keep
    the products small.

    Args:
        matrix: of any scale: it is divided by its norm first.
        dtype: data type of the iteration and of the result; None = that of the matrix.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = (x / (x.norm() + 1e-7)).to(dtype or x.dtype)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Muon optimizer of weights with two or more dimensions.

    Args:
        parameters: weights; dimensions after the first are flattened.
        lr: learning rate.
        momentum: Nesterov momentum.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Perform one optimization step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                self._update(parameter, group["lr"], group["momentum"])

    def _update(self, parameter: nn.Parameter, rate: float, momentum: float) -> None:
        if parameter.grad is None:
            return
        state = self.state[parameter]
        if not state:
            state["average"] = torch.zeros_like(parameter)
        average = state["average"].lerp_(parameter.grad, 1 - momentum)
        direction = parameter.grad.lerp(average, momentum).flatten(1)
        scale = STEP_SIZE * max(direction.shape) ** 0.5
        # The orthogonal factor needs the full tensor of a sharded matrix.
        matrix = full_tensor(direction).float()
        step = orthogonalise(matrix, iteration_dtype(matrix.device)).to(parameter.dtype)
        step = shard_like(step.view(parameter.shape), parameter)
        parameter.add_(step, alpha=-rate * scale)

# SPDX-License-Identifier: Apache-2.0
"""Muon: momentum whose matrices are made nearly orthogonal before each step.

Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon), with the step size of Liu et al.
2025 (arXiv 2502.16982, eq. 4), which gives a step the root mean square of Adam's. A convolution's
weight is one matrix, output channels times the rest. On cards the iteration computes in bf16, as
published; a CPU computes it in fp32.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pippin.system.sharded import laid_out_as, whole

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""a, b, c of Jordan's quintic: five iterations bring singular values to about 0.7 .. 1.2."""
ITERATIONS = 5
STEP_SIZE = 0.2
"""Liu et al.'s factor, about the root mean square of Adam's steps."""


def product_type(device: torch.device) -> torch.dtype | None:
    """In which type a device multiplies the iteration's matrices; None = in their own."""
    return torch.bfloat16 if device.type == "cuda" else None


def orthogonalise(
    matrix: Float[Tensor, "rows columns"], products: torch.dtype | None = None
) -> Float[Tensor, "rows columns"]:
    """About U V^T of the singular value decomposition U S V^T, by X <- a X + (b A + c A A) X.

    A is X X^T; the smaller side comes first, which makes the products small.

    Args:
        matrix: whose size does not matter: it is divided by its norm first.
        products: the type of the iteration, and of what is returned; None = the matrix's own.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = (x / (x.norm() + 1e-7)).to(products or x.dtype)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """The optimizer of weights with two or more dimensions.

    Args:
        parameters: weights; dimensions after the first are flattened.
        lr: learning rate.
        momentum: of the gradient's average, used with Nesterov's look-ahead.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One step from the gradients."""
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
        # A matrix of which each process holds a part is put together: its orthogonal factor needs
        # all of it.
        matrix = whole(direction).float()
        step = orthogonalise(matrix, product_type(matrix.device)).to(parameter.dtype)
        step = laid_out_as(step.view(parameter.shape), parameter)
        parameter.add_(step, alpha=-rate * scale)

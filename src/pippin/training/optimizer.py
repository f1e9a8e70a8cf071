# SPDX-License-Identifier: Apache-2.0
"""Optimizers (Muon among them), and the position of a step in the learning-rate schedule.

Muon is momentum with nearly orthogonalised update matrices: Jordan et al. 2024
(https://kellerjordan.github.io/posts/muon), with the step size of Liu et al. 2025 (arXiv
2502.16982, eq. 4), which gives a step the root mean square of Adam's. A convolution's weight is
one matrix, output channels times the rest. On GPUs the Newton-Schulz iteration computes in bf16,
as published; a CPU computes it in fp32, on request with fewer products.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from pippin.distributed.sharded_tensors import full_tensor, shard_like
from pippin.model import LatentDenoiser
from pippin.training.config import TrainConfig
from pippin.training.schedules import learning_rate_factor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""a, b, c of Jordan's quintic: five iterations bring singular values to about 0.7 .. 1.2."""
GRAM_PHASES = (3, 2)
"""Iterations on a Gram matrix before it is computed again. Rounding of its small eigenvalues grows
with them: five in one phase have up to 30 times the error of the plain iteration, this split 3."""
ITERATIONS = sum(GRAM_PHASES)
STEP_SIZE = 0.2
"""Liu et al.'s factor, about the root mean square of Adam's steps."""


def iteration_dtype(device: torch.device) -> torch.dtype | None:
    """Data type of the iteration on a device; None = that of the matrix."""
    return torch.bfloat16 if device.type == "cuda" else None


def orthogonalise(
    matrix: Float[Tensor, "rows columns"], dtype: torch.dtype | None = None, *, gram: bool = False
) -> Float[Tensor, "rows columns"]:
    """Approximation of U V^T for the singular value decomposition U S V^T.

    It iterates X <- p(A) X with A = X X^T and p(A) = a + b A + c A A; the smaller side comes
    first, to keep the products small.

    Args:
        matrix: of any scale: it is divided by its norm first.
        dtype: data type of the iteration and of the result; None = that of the matrix.
        gram: iterate on A where that takes fewer FLOPs: see :func:`_iterate_gram`.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix / (matrix.norm() + 1e-7)).to(dtype or matrix.dtype)
    # In a transposed view, each sum with a product would read one of the two across its rows.
    x = x.T.contiguous() if tall else x
    if gram and x.shape[1] >= 2 * x.shape[0]:
        for iterations in GRAM_PHASES:
            x = _iterate_gram(x, iterations)
    else:
        for _ in range(ITERATIONS):
            product = _without_constant(x @ x.T) @ x
            x = x.mul_(COEFFICIENTS[0]).add_(product)
    return x.T if tall else x


def _without_constant(gram: Float[Tensor, "rows rows"]) -> Float[Tensor, "rows rows"]:
    """b A + c A A."""
    _, b, c = COEFFICIENTS
    return (c * gram @ gram).add_(b * gram)


def _iterate_gram(
    x: Float[Tensor, "rows columns"], iterations: int
) -> Float[Tensor, "rows columns"]:
    """The same iterations as products of polynomials of A = X X^T alone, which commute: the Gram
    matrix after one is p(A) A p(A). Equal up to rounding."""
    gram = x @ x.T
    total: Tensor | None = None
    for iteration in range(iterations):
        polynomial = _without_constant(gram)
        polynomial.diagonal().add_(COEFFICIENTS[0])
        total = polynomial if total is None else polynomial @ total
        if iteration + 1 < iterations:
            gram = polynomial @ gram @ polynomial
    assert total is not None
    return total @ x


class Muon(torch.optim.Optimizer):
    """Muon optimizer of weights with two or more dimensions.

    Args:
        parameters: weights; dimensions after the first are flattened.
        lr: learning rate.
        momentum: Nesterov momentum.
        gram: where the iteration runs in fp32, see :func:`orthogonalise`.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        *,
        gram: bool = False,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})
        self.gram = gram

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
        dtype = iteration_dtype(matrix.device)
        step = orthogonalise(matrix, dtype, gram=self.gram and dtype is None).to(parameter.dtype)
        step = shard_like(step.view(parameter.shape), parameter)
        parameter.add_(step, alpha=-rate * scale)


def build_optimizers(model: LatentDenoiser, config: TrainConfig) -> list[Optimizer]:
    """Build Adam for all parameters; with ``muon_learning_rate``, Muon for the matrices of the
    denoiser's blocks and Adam for the rest. Adam's weight decay is decoupled."""
    if config.muon_learning_rate is None:
        return [_adam(list(model.parameters()), config)]
    named = model.denoiser.blocks.named_parameters()
    matrices = [p for name, p in named if name.endswith("weight") and p.ndim > 1]  # no tables
    matrix_ids = set(map(id, matrices))
    rest = [p for p in model.parameters() if id(p) not in matrix_ids]
    muon = Muon(matrices, lr=config.muon_learning_rate, gram=config.muon_gram)
    return [_adam(rest, config), muon]


def _adam(parameters: list[nn.Parameter], config: TrainConfig) -> Optimizer:
    optimizer_class = torch.optim.AdamW if config.weight_decay else torch.optim.Adam
    return optimizer_class(
        parameters,
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=parameters[0].device.type in ("cpu", "cuda"),  # one kernel pass over the weights
    )


def state_bytes(optimizer: Optimizer) -> int:
    """Bytes of an optimizer's full state after a step, also where it is sharded: Adam has two
    averages of each number and a step count of each tensor, Muon one average of each number."""
    owned = [p for group in optimizer.param_groups for p in group["params"]]
    average = sum(p.numel() * p.element_size() for p in owned)
    if isinstance(optimizer, Muon):
        return average
    return 2 * average + len(owned) * torch.float32.itemsize


def schedule_position(
    step: int, *, images: int, batch_size: int, lr_at: Literal["middle", "end"]
) -> tuple[float, int]:
    """Images at which a step reads its learning rates, and the length of the run in images. By
    ``train.lr_at`` that is the middle of the step in a run of full batches, or the end of the step
    in a run of exactly ``images``."""
    if lr_at == "end":
        return (step + 1) * batch_size, images
    return (step + 0.5) * batch_size, math.ceil(images / batch_size) * batch_size


def lr_multiplier(config: TrainConfig, step: int) -> float:
    """Multiplier of the learning rates in a step, see :mod:`pippin.training.schedules`.

    It is evaluated at the middle of the step's images, for a run of ``total_steps`` full batches:
    so no step has rate 0, not even the only one of a run. With ``lr_at`` end it is evaluated at
    their end, for a run of exactly ``images``.

    Args:
        config: length and schedule.
        step: index, from 0.
    """
    seen, length = schedule_position(
        step, images=config.images, batch_size=config.batch_size, lr_at=config.lr_at
    )
    return learning_rate_factor(config, seen, length)


def set_learning_rates(optimizers: Sequence[Optimizer], multiplier: float) -> None:
    """Set every group's learning rate to a multiple of its peak rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = multiplier * group.setdefault("peak_lr", group["lr"])


def optimizer_tensors(model: nn.Module, optimizers: Sequence[Optimizer]) -> dict[str, Tensor]:
    """Optimizer state as ``SLOT/PARAMETER`` tensors."""
    return {
        f"{slot}/{name}": value
        for name, parameter, optimizer in _named_parameters(model, optimizers)
        for slot, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizers(
    model: nn.Module, optimizers: Sequence[Optimizer], tensors: dict[str, Tensor]
) -> None:
    """Load state from :func:`optimizer_tensors`, to the device of each parameter."""
    slots = sorted({key.split("/", 1)[0] for key in tensors})
    for name, parameter, optimizer in _named_parameters(model, optimizers):
        state = {slot: tensors[f"{slot}/{name}"] for slot in slots if f"{slot}/{name}" in tensors}
        fused = optimizer.defaults.get("fused")
        optimizer.state[parameter] = {
            slot: shard_like(value.to(parameter.device), parameter)
            if value.ndim or fused
            else value  # a step count, which only fused Adam keeps beside the parameter
            for slot, value in state.items()
        }


def _named_parameters(
    model: nn.Module, optimizers: Sequence[Optimizer]
) -> Iterator[tuple[str, nn.Parameter, Optimizer]]:
    """(name, parameter, its optimizer) of each parameter."""
    owner = {
        id(parameter): optimizer
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in model.named_parameters():
        yield name, parameter, owner[id(parameter)]

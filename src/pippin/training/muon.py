# SPDX-License-Identifier: Apache-2.0
"""Muon: momentum with nearly orthogonalised update matrices.

Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon), with the step size of Liu et al.
2025 (arXiv 2502.16982, eq. 4), which gives a step the root mean square of Adam's. A convolution's
weight is one matrix, output channels times the rest. On GPUs the Newton-Schulz iteration computes
in bf16, as published. A CPU computes it in fp32, on request with fewer products, or in bf16 for
several matrices at once.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pippin.distributed.sharded_tensors import full_tensor, shard_like
from pippin.distributed.world import SINGLE_RANK, World
from pippin.system.device import cpu_has_bf16_units
from pippin.training.config import MuonPrecision

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""a, b, c of Jordan's quintic: five iterations bring singular values to about 0.7 .. 1.2."""
GRAM_PHASES = (3, 2)
"""Iterations on a Gram matrix before it is computed again. Rounding of its small eigenvalues grows
with them: five in one phase have up to 30 times the error of the plain iteration, this split 3."""
STACK_PHASES = (2, 2, 1)
"""The same for a stack in bf16, where three iterations have up to twice the error of two, and five
no correct digit."""
ITERATIONS = sum(GRAM_PHASES)
STEP_SIZE = 0.2
"""Liu et al.'s factor, about the root mean square of Adam's steps."""
STACK_NUMBERS = 2**19
"""Numbers of the matrices that a CPU iterates at once, so that the stack stays in its cache: small
matrices take half the time of single ones."""


def iteration_dtype(device: torch.device, precision: MuonPrecision = "auto") -> torch.dtype | None:
    """Data type of the iteration on a device; None = that of the matrix.

    A CPU without bf16 units keeps fp32, because it would emulate bf16, which is slower.
    """
    wanted = device.type == "cuda" if precision == "auto" else precision == "bf16"
    emulated = device.type == "cpu" and not cpu_has_bf16_units()
    return torch.bfloat16 if wanted and not emulated else None


def shared_precision(
    device: torch.device, precision: MuonPrecision, world: World = SINGLE_RANK
) -> MuonPrecision:
    """Precision that all ranks use, so that equal weights take equal steps: on CPUs bf16 only if
    the CPU of every rank has bf16 units. All ranks must call it."""
    if precision != "bf16" or device.type != "cpu":
        return precision
    return "fp32" if world.any_rank(not cpu_has_bf16_units()) else "bf16"


def unused_precision(
    requested: MuonPrecision, optimizers: Iterable[torch.optim.Optimizer], world_size: int
) -> str | None:
    """Note for a log where bf16 was asked for and Muon uses fp32; None where it is as asked.

    Args:
        requested: ``train.muon_precision``.
        optimizers: those of a run, whose Muon has the precision that its ranks share.
        world_size: number of ranks.
    """
    used = {optimizer.precision for optimizer in optimizers if isinstance(optimizer, Muon)}
    if used <= {requested}:
        return None
    whose = "this CPU" if world_size == 1 else "the CPU of every rank"
    return (
        f"train.muon_precision bf16 stays fp32: torch reports no bf16 units of {whose} "
        "(AVX512-BF16 or AMX), and without them bf16 is slower"
    )


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


def orthogonalise_stack(
    matrices: Sequence[Float[Tensor, "rows columns"]], dtype: torch.dtype, *, gram: bool = False
) -> Float[Tensor, "matrices rows columns"]:
    """:func:`orthogonalise` of several matrices of one shape in batched products.

    Tall matrices are multiplied from the right instead of being transposed. The large constant a
    stays out of rounded polynomials: each a Y + (b A + c A A) Y is rounded once, so that in bf16
    the error is at most that of the published iteration in bf16, and often half of it.
    """
    rows, columns = matrices[0].shape
    x = matrices[0].new_empty((len(matrices), rows, columns), dtype=dtype)
    for row, matrix in zip(x, matrices, strict=True):
        torch.div(matrix, matrix.norm() + 1e-7, out=row)
    wide = max(rows, columns) >= 2 * min(rows, columns)
    for iterations in STACK_PHASES if gram and wide else (1,) * ITERATIONS:
        x = _iterate_stack(x, iterations, tall=rows > columns)
    return x


def _iterate_stack(
    x: Float[Tensor, "matrices rows columns"], iterations: int, *, tall: bool
) -> Float[Tensor, "matrices rows columns"]:
    """Iterations on the Gram matrices, A = X X^T, or X^T X of tall matrices."""
    a, b, c = COEFFICIENTS
    gram = x.mT @ x if tall else x @ x.mT
    total: Tensor | None = None
    for remaining in reversed(range(iterations)):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # p(A) without a
        if iterations == 1:
            factors = (x, polynomial) if tall else (polynomial, x)
            return torch.baddbmm(x, *factors, beta=a)
        if remaining:
            half = torch.baddbmm(gram, polynomial, gram, beta=a)
            gram = torch.baddbmm(half, half, polynomial, beta=a)
        if total is None:
            total = polynomial
            total.diagonal(dim1=-2, dim2=-1).add_(a)
        else:
            total = torch.baddbmm(total, polynomial, total, beta=a)
    assert total is not None
    return x @ total if tall else total @ x


class Muon(torch.optim.Optimizer):
    """Muon optimizer of weights with two or more dimensions.

    Args:
        parameters: weights; dimensions after the first are flattened.
        lr: learning rate.
        momentum: Nesterov momentum.
        gram: on CPUs, see :func:`orthogonalise`.
        precision: of the iteration, see :func:`iteration_dtype`; of several ranks
            :func:`shared_precision`.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        *,
        gram: bool = False,
        precision: MuonPrecision = "auto",
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})
        self.gram, self.precision = gram, precision

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Perform one optimization step."""
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            for stack in self._stacks(weights):
                directions = [self._direction(p, group["momentum"]) for p in stack]
                for weight, step in zip(stack, self._orthogonalise(directions), strict=True):
                    scale = STEP_SIZE * max(step.shape) ** 0.5
                    step = step.to(weight.dtype).view(weight.shape)
                    weight.add_(shard_like(step, weight), alpha=-group["lr"] * scale)

    def _stacks(self, weights: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
        """Weights that are orthogonalised at once: of one shape in bf16 on a CPU, else single."""
        groups = defaultdict[torch.Size, list[nn.Parameter]](list)
        for weight in weights:
            dtype = iteration_dtype(weight.device, self.precision)
            if weight.device.type == "cpu" and dtype is not None:
                groups[weight.shape].append(weight)
            else:
                yield [weight]
        for shape, group in groups.items():
            length = max(1, STACK_NUMBERS // shape.numel())
            yield from (group[i : i + length] for i in range(0, len(group), length))

    def _direction(self, weight: nn.Parameter, momentum: float) -> Float[Tensor, "rows columns"]:
        """Nesterov direction of a weight as a matrix in fp32; it updates the average."""
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state["average"] = torch.zeros_like(weight)
        average = state["average"].lerp_(weight.grad, 1 - momentum)
        direction = weight.grad.lerp(average, momentum).flatten(1)
        # The orthogonal factor needs the full tensor of a sharded matrix.
        return full_tensor(direction).float()

    def _orthogonalise(
        self, matrices: list[Float[Tensor, "rows columns"]]
    ) -> Iterable[Float[Tensor, "rows columns"]]:
        device = matrices[0].device
        dtype, on_cpu = iteration_dtype(device, self.precision), device.type == "cpu"
        if dtype is None:
            gram = self.gram and on_cpu
            return [orthogonalise(matrix, gram=gram) for matrix in matrices]
        if on_cpu:
            return orthogonalise_stack(matrices, dtype, gram=self.gram)
        return [orthogonalise(matrix, dtype) for matrix in matrices]

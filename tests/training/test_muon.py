# SPDX-License-Identifier: Apache-2.0
"""Muon: orthogonal steps of known size."""

import pytest
import torch
from torch import nn

from pippin.rng import normal
from pippin.training.optimizer import ITERATIONS, STEP_SIZE, Muon, iteration_dtype, orthogonalise


@pytest.mark.parametrize("shape", [(8, 8), (6, 40), (40, 6)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    matrix = normal(shape, "noise", 0)
    u, before, vh = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalise(matrix)
    values = torch.linalg.svdvals(result)
    strong = before > 0.05 * before.norm()  # weaker ones need more iterations
    assert values.max() < 1.25
    assert torch.diagonal(u.T @ result @ vh.T)[strong].min() > 0.6


def test_a_gpu_iterates_in_bf16_and_a_cpu_in_fp32() -> None:
    """In bf16 the orthogonal factor of a gradient of any scale agrees to 5 % of its norm."""
    assert iteration_dtype(torch.device("cuda", 1)) == torch.bfloat16
    assert iteration_dtype(torch.device("cpu")) is None
    matrix = normal((24, 40), "noise", 0)
    exact = orthogonalise(matrix)
    for size in (1.0, 1e6):  # the norm is taken before anything is rounded
        result = orthogonalise(size * matrix, torch.bfloat16)
        assert result.dtype == torch.bfloat16
        assert (result.float() - exact).norm() < 0.05 * exact.norm()


def test_singular_vectors_stay() -> None:
    left = torch.linalg.qr(normal((5, 5), "noise", 1))[0]
    right = torch.linalg.qr(normal((9, 9), "noise", 2))[0][:5]
    values = torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2])
    a, b, c = 3.4445, -4.7750, 2.0315
    expected = values / values.norm()
    for _ in range(ITERATIONS):  # the same polynomial on the singular values alone
        expected = a * expected + b * expected**3 + c * expected**5
    result = orthogonalise(left @ values.diag() @ right)
    torch.testing.assert_close(result, left @ expected.diag() @ right, rtol=1e-4, atol=1e-4)


def test_a_step_does_not_depend_on_the_size_of_the_gradient() -> None:
    steps = []
    for size in (1.0, 1e3):
        weight = nn.Parameter(torch.zeros(4, 2, 3, 3))
        weight.grad = size * normal((4, 2, 3, 3), "noise", 3)
        Muon([weight], lr=0.1).step()
        steps.append(weight.detach().clone())
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-3, atol=1e-6)
    # a 4 x 18 matrix with singular values near 1: root mean square about sqrt(4 / (4 * 18))
    expected = 0.1 * STEP_SIZE * 18**0.5 * (1 / 18) ** 0.5
    assert steps[0].square().mean().sqrt().item() == pytest.approx(expected, rel=0.25)


def test_it_goes_downhill() -> None:
    target = normal((6, 10), "noise", 4)
    weight = nn.Parameter(torch.zeros(6, 10))
    optimizer = Muon([weight], lr=0.1)
    for _ in range(100):
        weight.grad = weight.detach() - target
        optimizer.step()
    assert (weight.detach() - target).norm() < 0.3 * target.norm()

# SPDX-License-Identifier: Apache-2.0
"""Muon: orthogonal steps of known size."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pippin.config import ConfigError
from pippin.rng import normal
from pippin.training import muon as muon_module
from pippin.training.config import TrainConfig
from pippin.training.muon import (
    COEFFICIENTS,
    ITERATIONS,
    STEP_SIZE,
    Muon,
    iteration_dtype,
    orthogonalise,
)


def plain_iteration(matrix: Tensor) -> Tensor:
    """The iteration as published, on a transposed view of a tall matrix."""
    a, b, c = COEFFICIENTS
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


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


@pytest.mark.parametrize("shape", [(32, 32), (32, 96), (96, 32), (33, 20)])
def test_the_iteration_equals_the_published_one_bit_for_bit(shape: tuple[int, int]) -> None:
    """Kept studies were trained with the plain formula. Other libraries than MKL may round a
    product with a transposed factor in another way."""
    matrix = normal(shape, "noise", 5)
    tolerance = 0.0 if torch.backends.mkl.is_available() else 2e-6
    torch.testing.assert_close(
        orthogonalise(matrix), plain_iteration(matrix), rtol=0, atol=tolerance
    )


def with_spectrum(shape: tuple[int, int], decades: float) -> Tensor:
    """Random matrix whose singular values fall by so many decades."""
    u, values, vh = torch.linalg.svd(normal(shape, "noise", 6), full_matrices=False)
    return u @ torch.diag(10 ** torch.linspace(0, -decades, len(values))) @ vh


@pytest.mark.parametrize("decades", [0.0, 2.0, 6.0])
@pytest.mark.parametrize("shape", [(32, 64), (96, 24)])
def test_gram_matrices_change_rounding_only(shape: tuple[int, int], decades: float) -> None:
    """The error from fp64 is below 1e-5 of the norm, and a small multiple of the plain one's."""
    matrix = with_spectrum(shape, decades)
    exact = plain_iteration(matrix.double())

    def error(result: Tensor) -> float:
        return ((result - exact).norm() / exact.norm()).item()

    plain, gram = (error(orthogonalise(matrix, gram=gram)) for gram in (False, True))
    assert gram < min(1e-5, 4 * plain + 2.4e-7)


def test_gram_matrices_save_flops_where_a_matrix_is_wide() -> None:
    def flops(shape: tuple[int, int], gram: bool) -> int:
        with FlopCounterMode(display=False) as counter:
            orthogonalise(torch.empty(shape, device="meta"), gram=gram)
        return counter.get_total_flops()

    assert flops((8, 12), True) == flops((8, 12), False)
    assert [flops((8 * k, 8), True) / flops((8 * k, 8), False) for k in (2, 3, 4, 6)] == [
        pytest.approx((8 * k + 28) / (20 * k + 10)) for k in (2, 3, 4, 6)
    ]


def test_only_fp32_iterations_use_gram_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def spy(matrix: Tensor, dtype: torch.dtype | None, *, gram: bool) -> Tensor:
        used.append((dtype, gram))
        return orthogonalise(matrix, dtype, gram=gram)

    def step(dtype: torch.dtype | None) -> None:
        weight = nn.Parameter(torch.zeros(4, 12))
        weight.grad = normal((4, 12), "noise", 7)
        monkeypatch.setattr(muon_module, "iteration_dtype", lambda device: dtype)
        Muon([weight], lr=0.1, gram=True).step()

    monkeypatch.setattr(muon_module, "orthogonalise", spy)
    step(None)
    step(torch.bfloat16)
    assert used == [(None, True), (torch.bfloat16, False)]


def test_gram_matrices_need_muon() -> None:
    with pytest.raises(ConfigError, match=r"train\.muon_learning_rate"):
        TrainConfig(images=8, muon_gram=True)

# SPDX-License-Identifier: Apache-2.0
"""Muon: orthogonal steps of known size."""

from pathlib import Path
from typing import Any

import pytest
import torch
from processes import run_ranks
from small_trainer import make_trainer
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.utils.flop_counter import FlopCounterMode

from pippin.config import ConfigError
from pippin.distributed.sharded_tensors import full_tensor
from pippin.distributed.world import World
from pippin.rng import normal
from pippin.training import muon as muon_module
from pippin.training.config import MuonPrecision, TrainConfig
from pippin.training.muon import (
    COEFFICIENTS,
    ITERATIONS,
    STEP_SIZE,
    Muon,
    iteration_dtype,
    orthogonalise,
    orthogonalise_stack,
    shared_precision,
    unused_precision,
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


@pytest.mark.parametrize(
    ("device", "units", "in_bf16"),
    [
        ("cuda:1", False, ["auto", "bf16"]),
        ("cpu", True, ["bf16"]),
        ("cpu", False, []),
    ],
)
def test_precisions_that_iterate_in_bf16(
    device: str, units: bool, in_bf16: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(muon_module, "cpu_has_bf16_units", lambda: units)
    place = torch.device(device)
    precisions: tuple[MuonPrecision, ...] = ("auto", "fp32", "bf16")
    dtypes = {name: iteration_dtype(place, name) for name in precisions}
    assert [name for name, dtype in dtypes.items() if dtype == torch.bfloat16] == in_bf16
    assert [name for name, dtype in dtypes.items() if dtype is None] == [
        name for name in precisions if name not in in_bf16
    ]
    used = {name: muon_of(shared_precision(place, name)) for name in precisions}
    noted = [name for name, muon in used.items() if unused_precision(name, [muon], 1) is not None]
    assert noted == (["bf16"] if "bf16" not in in_bf16 else [])


def test_in_bf16_the_orthogonal_factor_of_any_scale_agrees_to_5_percent_of_its_norm() -> None:
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


@pytest.mark.parametrize("gram", [False, True])
@pytest.mark.parametrize("shape", [(24, 96), (96, 24), (32, 32), (20, 33)])
def test_a_stack_equals_single_matrices(shape: tuple[int, int], gram: bool) -> None:
    """In fp32, each of another scale and spectrum, to 1e-5 of the norm."""
    matrices = [10.0**decades * with_spectrum(shape, decades) for decades in (0.0, 1.0, 3.0)]
    stack = orthogonalise_stack(matrices, torch.float32, gram=gram)
    for matrix, result in zip(matrices, stack, strict=True):
        exact = plain_iteration(matrix.double())
        assert (result - exact).norm() < 1e-5 * exact.norm()


@pytest.mark.parametrize("gram", [False, True])
@pytest.mark.parametrize("shape", [(32, 96), (96, 32), (32, 32)])
def test_the_error_of_a_stack_in_bf16(shape: tuple[int, int], gram: bool) -> None:
    """At most that of the published iteration in bf16, and below 4 % of the norm where singular
    values fall by two decades or less."""

    def error(result: Tensor, exact: Tensor) -> float:
        return ((result.double() - exact).norm() / exact.norm()).item()

    for decades in (0.0, 1.0, 2.0, 6.0):
        matrix = with_spectrum(shape, decades)
        exact = plain_iteration(matrix.double())
        (result,) = orthogonalise_stack([matrix], torch.bfloat16, gram=gram)
        found = error(result, exact)
        assert found < error(orthogonalise(matrix, torch.bfloat16), exact)
        assert decades > 2 or found < 0.04


def weights_with_gradients() -> list[nn.Parameter]:
    """Three matrices and two kernels of one shape each, and a weight without a gradient."""
    shapes = [(12, 6), (6, 4, 3, 3), (12, 6), (6, 6), (6, 4, 3, 3), (12, 6)]
    weights = [nn.Parameter(normal(shape, "noise", i)) for i, shape in enumerate(shapes)]
    for i, weight in enumerate(weights):
        weight.grad = 10.0**-i * normal(tuple(weight.shape), "noise", 10 + i)
    return [*weights, nn.Parameter(torch.ones(12, 6))]


def steps_taken(precision: MuonPrecision, gram: bool = False) -> list[Tensor]:
    """Change of each weight in three steps."""
    weights = weights_with_gradients()
    before = [weight.detach().clone() for weight in weights]
    optimizer = Muon(weights, lr=0.1, gram=gram, precision=precision)
    for _ in range(3):
        optimizer.step()
    return [weight.detach() - old for weight, old in zip(weights, before, strict=True)]


@pytest.mark.parametrize("gram", [False, True])
def test_steps_in_bf16_are_near_those_in_fp32(gram: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon_module, "cpu_has_bf16_units", lambda: True)
    *results, untouched = zip(steps_taken("bf16", gram), steps_taken("fp32"), strict=True)
    for step, exact in results:
        assert 0 < (step - exact).norm() < 0.05 * exact.norm()
    assert not untouched[0].any()


def test_a_cpu_without_bf16_units_keeps_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon_module, "cpu_has_bf16_units", lambda: False)
    for step, exact in zip(steps_taken("bf16", True), steps_taken("auto", True), strict=True):
        assert torch.equal(step, exact)


@pytest.mark.parametrize(("limit", "sizes"), [(10**6, [3, 2, 1]), (150, [2, 1, 1, 1, 1])])
def test_stacks_hold_equal_shapes_up_to_a_limit(
    limit: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    def spy(matrices: list[Tensor], dtype: torch.dtype, *, gram: bool) -> Tensor:
        used.append(len(matrices))
        return orthogonalise_stack(matrices, dtype, gram=gram)

    monkeypatch.setattr(muon_module, "cpu_has_bf16_units", lambda: True)
    monkeypatch.setattr(muon_module, "STACK_NUMBERS", limit)
    monkeypatch.setattr(muon_module, "orthogonalise_stack", spy)
    Muon(weights_with_gradients(), lr=0.1, precision="bf16").step()
    assert used == sizes


def sharded_steps(world: World, _: Path) -> list[Tensor]:
    """Weights after a step in bf16, sharded among the ranks."""
    mesh = init_device_mesh("cpu", (world.size,))
    weights = []
    for weight in weights_with_gradients()[:-1]:
        sharded = nn.Parameter(distribute_tensor(weight.detach(), mesh, [Shard(0)]))
        assert weight.grad is not None
        sharded.grad = distribute_tensor(weight.grad, mesh, [Shard(0)])
        weights.append(sharded)
    Muon(weights, lr=0.1, precision="bf16", gram=True).step()
    return [full_tensor(weight.detach()) for weight in weights]


def test_sharded_weights_take_the_same_steps_in_bf16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rank orthogonalises the full matrices; within fp32 rounding, as norms are summed in
    another order."""
    monkeypatch.setattr(muon_module, "cpu_has_bf16_units", lambda: True)
    weights = weights_with_gradients()[:-1]
    Muon(weights, lr=0.1, precision="bf16", gram=True).step()
    for results in run_ranks(2, sharded_steps, tmp_path):
        for result, weight in zip(results, weights, strict=True):
            torch.testing.assert_close(result, weight.detach(), rtol=0, atol=1e-6)


def muon_of(precision: MuonPrecision) -> Muon:
    return Muon([nn.Parameter(torch.ones(2, 2))], lr=0.1, precision=precision)


def uneven_precision(world: World, _: Path) -> list[Tensor]:
    """Whether ranks share bf16 where rank 1's CPU has no bf16 units, and where all have them."""
    device, shared = torch.device("cpu"), []
    for rank_without in (1, None):
        with pytest.MonkeyPatch.context() as patch:
            units = world.rank != rank_without
            patch.setattr(muon_module, "cpu_has_bf16_units", lambda has=units: has)
            precision = shared_precision(device, "bf16", world)
        noted = unused_precision("bf16", [muon_of(precision)], world.size) is not None
        shared.append(torch.tensor([precision == "bf16", noted]))
    return shared


def test_ranks_on_unlike_cpus_share_a_precision(tmp_path: Path) -> None:
    for without, everywhere in run_ranks(2, uneven_precision, tmp_path):
        assert without.tolist() == [False, True] and everywhere.tolist() == [True, False]


def test_ranks_decide_on_their_precision_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The note of a run reads what its optimizer was built with, without another all-reduce."""
    decisions = []

    def any_rank(world: World, here: bool) -> bool:
        decisions.append(here)
        return True

    monkeypatch.setattr(World, "any_rank", any_rank)
    settings: dict[str, Any] = {"muon_learning_rate": 0.01, "muon_precision": "bf16"}
    trainer = make_trainer(tmp_path, **settings)
    note = unused_precision("bf16", trainer.optimizers, 2)
    assert len(decisions) == 1 and note is not None and "every rank" in note
    adam = make_trainer(tmp_path, muon_learning_rate=None).optimizers
    assert unused_precision("bf16", adam, 2) is None


def test_gram_matrices_are_for_cpus() -> None:
    """Only a CPU's iteration in fp32 takes fewer FLOPs with them."""

    def flops(device: str, gram: bool) -> int:
        optimizer = Muon(weights_with_gradients(), lr=0.1, gram=gram, precision="fp32")
        with FlopCounterMode(display=False) as counter:
            list(optimizer._orthogonalise([torch.ones(8, 40, device=device)]))
        return counter.get_total_flops()

    assert flops("cpu", True) < flops("cpu", False) == flops("meta", True) == flops("meta", False)


@pytest.mark.parametrize("setting", [{"muon_gram": True}, {"muon_precision": "bf16"}])
def test_settings_of_muon_need_muon(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"train\.{next(iter(setting))} .*muon_learning_rate"):
        TrainConfig(images=8, **setting)

# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prdc import compute_prdc

from pippin.evaluation.metrics import prdc as module
from pippin.evaluation.metrics.prdc import prdc

NAMES = ("precision", "recall", "density", "coverage")


def normal(n: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))


def values(generated: torch.Tensor, reference: torch.Tensor, k: int) -> list[float]:
    result = prdc(generated, reference, k)
    return [getattr(result, name).value for name in NAMES]


@settings(max_examples=15, deadline=None)
@given(n=st.integers(8, 40), m=st.integers(8, 40), k=st.integers(1, 5), scale=st.floats(0.3, 2))
def test_agrees_with_the_published_code(n, m, k, scale):
    generated, reference = normal(n, 0, scale), normal(m, 1)
    oracle = compute_prdc(reference.double().numpy(), generated.double().numpy(), nearest_k=k)
    expected = [float(oracle[name]) for name in NAMES]
    assert values(generated, reference, k) == pytest.approx(expected, abs=1e-12)


def test_the_reference_itself_is_perfect():
    x = normal(40, 0)
    precision, recall, density, coverage = values(x, x, 5)
    assert (precision, recall, coverage) == (1, 1, 1)
    assert density >= 1


def test_a_collapsed_set_covers_little():
    reference = normal(60, 0)
    collapsed = reference[:2].repeat(30, 1)
    precision, recall, _, coverage = values(collapsed, reference, 3)
    assert precision == 1  # both images are real
    assert recall == 0  # copies have open balls of radius zero, which contain nothing
    assert coverage < 0.5


def test_sets_far_apart_share_nothing():
    assert values(normal(20, 0) + 1e3, normal(20, 1), 3) == [0, 0, 0, 0]


@pytest.mark.parametrize("k", [1, 3])
def test_left_out_values_are_recomputed_ones(k):
    """Exact, including balls that grow when the neighbour that bounds them is left out."""
    generated, reference = normal(14, 3, 0.7), normal(25, 4)
    result = prdc(generated, reference, k)
    for index in range(14):
        rest = torch.cat([generated[:index], generated[index + 1 :]])
        again = prdc(rest, reference, k)
        for name in NAMES:
            leave_one_out = float(getattr(result, name).leave_one_out[index])
            assert leave_one_out == pytest.approx(getattr(again, name).value, abs=1e-12), name


def test_blocks_do_not_change_the_result(monkeypatch):
    generated, reference = normal(30, 3), normal(25, 4)
    whole = prdc(generated, reference, 3)
    monkeypatch.setattr(module, "CELLS", 64)
    blocks = prdc(generated, reference, 3)
    for name in NAMES:
        assert getattr(blocks, name).value == getattr(whole, name).value
        assert torch.equal(getattr(blocks, name).leave_one_out, getattr(whole, name).leave_one_out)


def test_blocks_share_one_buffer(monkeypatch):
    """New tensors for each block take memory that grows with the square of the images, where the
    C library does not use that of the earlier ones again."""
    monkeypatch.setattr(module, "CELLS", 64)
    rows = normal(30, 3).double()
    blocks = [(place, distances) for place, distances in module._blocks(rows, rows)]
    assert len(blocks) == 15 and len({distances.data_ptr() for _, distances in blocks}) == 1
    place, distances = blocks[-1]
    expected = torch.cdist(rows[place], rows).square()
    torch.testing.assert_close(distances, expected, rtol=1e-9, atol=1e-12)


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="at least 7 generated and 6 reference"):
        prdc(normal(6, 0), normal(20, 1), 5)

# SPDX-License-Identifier: Apache-2.0
"""Looked-up shapes against those that torch computes."""

import pytest
import torch
import torch.nn.functional as F
from small_models import KINDS
from torch.utils.flop_counter import FlopCounterMode

from pippin.conditioning.config import ConditioningConfig
from pippin.evaluation.metrics import shape_memo
from pippin.evaluation.metrics.cost import meta_model, trial_outputs
from pippin.evaluation.metrics.shape_memo import FlopCount, ShapeMemo


@pytest.fixture(autouse=True)
def _empty(monkeypatch):
    monkeypatch.setattr(shape_memo, "_results", {})


def meta(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="meta")


def described(outputs):
    return [(x.shape, x.stride(), x.dtype, x.device) for x in outputs]


OPERATIONS = {
    "a sum": lambda: [meta(2, 3) + meta(3)],
    "a sum with a number": lambda: [meta(2, 3, dtype=torch.int64) + 1],
    "a sum with a fraction": lambda: [meta(2, 3, dtype=torch.int64) + 1.0],
    "of a transpose": lambda: [meta(3, 2).t().exp()],
    "a cast": lambda: [meta(2, 3).to(torch.bfloat16)],
    "several results": lambda: [*meta(2, 3).max(dim=1)],
    "a list": lambda: [torch.cat([meta(2, 3), meta(4, 3)])],
    "a norm": lambda: [F.layer_norm(meta(2, 5, 8), (8,))],
    "a convolution": lambda: [F.conv2d(meta(1, 4, 8, 8), meta(6, 4, 3, 3), stride=2)],
    "on the CPU": lambda: [torch.ones(2, 3) + torch.ones(3)],
}


def test_results_are_those_of_torch_at_each_call():
    """All in one memo, so that none may be taken for another."""
    expected = {name: described(run()) for name, run in OPERATIONS.items()}
    with ShapeMemo():
        for _ in range(2):
            assert {name: described(run()) for name, run in OPERATIONS.items()} == expected
    assert len(shape_memo._results) >= len(OPERATIONS) - 1
    with ShapeMemo():
        assert torch.equal(torch.ones(2) + 1, torch.full((2,), 2.0))


def _views(x):
    return [x.view(3, 2), x.t(), torch.ops.aten._unsafe_view(x, [6]), x.add_(1)]


def test_each_result_has_memory_of_its_own_unless_it_is_a_view():
    x = meta(2, 3)
    with ShapeMemo():
        first, second = (x * 2 for _ in range(2))
        views = [view for _ in range(2) for view in _views(x)]  # the second time looked up
    storages = [y.untyped_storage()._cdata for y in (x, first, second)]
    assert len(set(storages)) == 3
    assert all(view.untyped_storage()._cdata == storages[0] for view in views)


@pytest.mark.parametrize("kind", KINDS)
def test_flops_are_those_of_torchs_counter(kind):
    rule = "modulation" if kind == "mdtv2" else "attention"
    denoiser = meta_model(ConditioningConfig(rules={"label": rule}), KINDS[kind], 3, 4)
    counts = []
    for counter in (FlopCounterMode(display=False), FlopCount(), FlopCount()):
        with counter:
            outputs = trial_outputs(denoiser, (4, 8, 8), training=True)
            torch.stack([x.sum() for x in outputs]).sum().backward()
        counts.append(counter)
    theirs, first, second = counts
    assert theirs.get_total_flops() == first.total == second.total > 0


def test_flops_are_counted_in_inference_mode():
    """There the operations inside a linear layer or a convolution arrive as one."""
    linear, conv = torch.nn.Linear(8, 6, device="meta"), torch.nn.Conv2d(4, 6, 3, device="meta")
    with torch.inference_mode(), FlopCount() as counter:
        linear(meta(5, 8))
        conv(meta(1, 4, 8, 8))
        F.scaled_dot_product_attention(*[meta(1, 2, 5, 8)] * 3)
    assert counter.total == 2 * (5 * 8 * 6 + 6 * 6 * 6 * 4 * 9 + 2 * 2 * 5 * 5 * 8)

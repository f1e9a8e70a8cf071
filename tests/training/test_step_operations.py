# SPDX-License-Identifier: Apache-2.0
"""Overhead of a training step without a clock: the number of operations that torch dispatches."""

from collections import Counter

import pytest
from small_trainer import batches, make_trainer
from torch.utils._python_dispatch import TorchDispatchMode

from pippin.denoisers.mmdit.config import MMDiTConfig

MOST = {"step": 3980, "forward": 710, "backward": 1205, "ema": 1}
"""Largest number of operations of a step and of its parts, at depth 4 with class by modulation, QK
norm and Muon as at the ``cpu`` scale of studies. Width and batch do not change them."""


class OperationCounter(TorchDispatchMode):
    """Counts dispatched operations."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.operations[str(function)] += 1
        return function(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        return self.operations.total()


@pytest.fixture
def trainer(tmp_path):
    denoiser = MMDiTConfig(depth=4, width=16, num_heads=2)
    trainer = make_trainer(tmp_path, denoiser=denoiser, muon_learning_rate=0.02)
    trainer.step(next(batches()))  # fills caches and the optimizers' state
    return trainer


def test_a_step_dispatches_no_more_operations(trainer):
    batch, counts = next(batches(1)), {}
    with OperationCounter() as counter:
        trainer.step(batch)
    counts["step"] = counter.total
    draws = trainer.draw(1, tuple(batch.latents.shape))
    with OperationCounter() as counter:
        loss = trainer._loss(batch, draws)
    counts["forward"] = counter.total
    with OperationCounter() as counter:
        loss.backward()
    counts["backward"] = counter.total
    with OperationCounter() as counter:
        trainer.ema.update(trainer.model, batch_size=8, images_seen=16)
    counts["ema"] = counter.total
    assert all(counts[part] <= most for part, most in MOST.items()), counts


def test_only_the_last_block_slices_its_attention(trainer):
    """A slice costs a zero tensor of the full size, a copy and a sum in the backward pass."""
    batch = next(batches(1))
    loss = trainer._loss(batch, trainer.draw(1, tuple(batch.latents.shape)))
    with OperationCounter() as counter:
        loss.backward()
    assert counter.operations["aten.slice_backward.default"] <= 1

# SPDX-License-Identifier: Apache-2.0
"""Gradient checkpointing changes memory, not numbers."""

import copy

import pytest
import torch
from small_models import KINDS, gradients, model_of

from pippin.conditioning.config import ConditioningConfig
from pippin.denoisers.mmdit.config import mmdit
from pippin.model import build_model
from pippin.planning.activations import activation_bytes
from pippin.training.blocks import checkpoint_blocks


def test_samples_keep_nothing_to_recompute(monkeypatch):
    def never(*_, **__):
        raise AssertionError("checkpointed without a gradient to compute")

    monkeypatch.setattr("pippin.training.blocks.checkpoint", never)
    model = model_of("dit", 1)
    with pytest.raises(AssertionError, match="without a gradient"):
        gradients(model, "dit")
    with torch.no_grad():
        block = model.denoiser.blocks[0]
        x = torch.randn(1, 4, 128)
        assert block(x, torch.zeros(1, 128), torch.zeros(1, 2, 128), None).shape == x.shape


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_stay_and_blocks_run_again(kind):
    plain, plain_gradients, once = gradients(model_of(kind), kind)
    for every in (1, 2):
        output, found, runs = gradients(model_of(kind, every), kind)
        assert torch.equal(output, plain)
        for a, b in zip(found, plain_gradients, strict=True):
            assert (a is None) == (b is None)
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)  # sums in another order
        again = [2 if place % every == 0 else 1 for place in range(len(runs))]
        assert runs == [count * factor for count, factor in zip(once, again, strict=True)]


def test_a_copy_runs_its_own_weights():
    model = model_of("dit", 1)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    output, _, runs = gradients(copied, "dit")
    assert torch.equal(output, torch.zeros_like(output)) and set(runs) == {2}
    assert list(model.state_dict()) == list(model_of("dit").state_dict())


def test_keeps_less():
    kept = {}
    for every in (0, 2, 1):
        with torch.device("meta"):
            model = build_model(
                ConditioningConfig(), mmdit("tiny"), num_classes=3, latent_channels=4, seed=None
            )
        checkpoint_blocks(model.denoiser.blocks, every)
        kept[every] = activation_bytes(model, (4, 16, 16))
    assert kept[1] < 0.3 * kept[0] < kept[2] < 0.8 * kept[0]

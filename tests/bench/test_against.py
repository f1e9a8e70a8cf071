# SPDX-License-Identifier: Apache-2.0
"""Our DiT beside diffusers': they compute the same, and are not timed where they do not."""

import pytest
import torch
from rich.console import Console

from pippin.bench.against import Pair, against_diffusers
from pippin.bench.config import AgainstConfig

TINY = AgainstConfig(
    size="tiny", side=8, batch_size=3, rounds=2, precisions=("bf16",), matmul_side=32, device="cpu"
)


def test_every_weight_of_ours_reaches_theirs():
    pair = Pair(TINY, torch.device("cpu"))
    pair.check_equal()
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in pair.ours.parameters():
            kept = weight.clone()
            weight.add_(0.1 * torch.randn(weight.shape, generator=draws))
            with pytest.raises(ValueError, match="differ by"):  # theirs has the old one
                pair.check_equal()
            weight.copy_(kept)
            pair.check_equal()


def test_models_that_differ_are_not_timed():
    pair = Pair(TINY, torch.device("cpu"))
    with torch.no_grad():
        pair.theirs.proj_out_2.bias += 1e-3
    with pytest.raises(ValueError, match="differ by"):
        pair.check_equal()


def test_forward_and_backward_are_timed_in_turns():
    forward, both = against_diffusers(TINY, Console(quiet=True))
    assert (forward.backward, both.backward) == (False, True)
    assert forward.ours.high > both.ours.low  # a busy machine may slow either
    assert both.ratio.low <= both.ratio.median <= both.ratio.high
    assert both.ratio.windows == TINY.rounds

# SPDX-License-Identifier: Apache-2.0
"""pippin's denoisers against diffusers': equal outputs, or no timing."""

from typing import get_args

import pytest
import torch
from rich.console import Console

from pippin.bench.against import Pair, against_diffusers, check_equal
from pippin.bench.config import AgainstConfig, Kind

TINY = AgainstConfig(
    size="tiny", side=8, batch_size=3, rounds=2, precisions=("bf16",), matmul_side=32, device="cpu"
)


def pair_of(kind):
    return Pair(kind, "tiny", 8, 3, torch.device("cpu"))


@pytest.mark.parametrize("kind", get_args(Kind))
def test_models_with_different_outputs_are_not_timed(kind):
    pair = pair_of(kind)
    check_equal(pair)
    with torch.no_grad():
        for weight in list(pair.model.denoiser.parameters())[-2:]:
            weight.add_(1e-2)
    with pytest.raises(ValueError, match="differ by"):
        check_equal(pair)


def test_diffusers_own_time_features_are_not_the_published_ones():
    pair = pair_of("dit")
    for block in pair.reference.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 1
    with pytest.raises(ValueError, match="differ by"):
        check_equal(pair)


def test_forward_and_backward_are_timed_alternately():
    forward, both = against_diffusers(TINY, Console(quiet=True))
    assert (forward.backward, both.backward) == (False, True)
    assert forward.pippin.high > both.pippin.low  # a busy machine may slow either
    assert both.ratio.low <= both.ratio.median <= both.ratio.high
    assert both.ratio.windows == TINY.rounds

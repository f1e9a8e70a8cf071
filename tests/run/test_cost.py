# SPDX-License-Identifier: Apache-2.0
"""FLOPs of a DiT against the closed form."""

import pytest

from pippin.conditioning.config import ConditioningConfig, ControlConfig
from pippin.denoisers.config import DiTConfig, dit
from pippin.run.cost import denoiser_flops, meta_model

CONDITIONING = ConditioningConfig(
    rules={"label": "modulation"}, control=ControlConfig(high=(), low=())
)


def macs(config, side, channels):
    """Per image: (of layers whose input needs no gradient, of the others)."""
    n, d = (side // config.patch_size) ** 2, config.width
    numbers = config.patch_size**2 * channels
    block = n * d * d * (4 + 2 * config.mlp_ratio) + 2 * n * n * d + 6 * d * d
    return n * numbers * d, config.depth * block + n * d * numbers + 2 * d * d


@pytest.mark.parametrize(
    "config", [dit("S"), DiTConfig(depth=2, width=32, num_heads=4, patch_size=4)]
)
def test_flops_of_a_dit_are_the_closed_form(config):
    model = meta_model(CONDITIONING, config, 10, 4)
    first, rest = macs(config, 32, 4)
    assert denoiser_flops(model, (4, 32, 32)) == 2 * (first + rest)
    # a layer's backward is two products of the size of its forward; the first has one
    assert denoiser_flops(model, (4, 32, 32), backward=True) == 2 * (2 * first + 3 * rest)


def test_the_published_size():
    flops = denoiser_flops(meta_model(CONDITIONING, dit("XL"), 1000, 4), (4, 32, 32))
    assert flops / 2 == pytest.approx(118.6e9, rel=0.005)  # Peebles & Xie 2023, table 1

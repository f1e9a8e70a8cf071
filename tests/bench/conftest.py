# SPDX-License-Identifier: Apache-2.0
"""One measurement of a small recipe with synthetic latents, in seconds."""

from dataclasses import replace

import pytest
from rich.console import Console

from pippin.bench.config import BenchConfig
from pippin.data.config import OpenMojiConfig
from pippin.denoisers.dit.config import DiTConfig
from pippin.recipes.table import get_recipe

BENCH = BenchConfig(data="made-up", windows=3, steps=4, warmup=1, matmul_side=64)


@pytest.fixture(scope="session")
def small_recipe():
    base = get_recipe("openmoji/dit-entangled")
    return replace(
        base,
        data=OpenMojiConfig(resolution=32, views=1, max_pictures=24),
        denoiser=DiTConfig(depth=2, width=64, num_heads=2),
        train=replace(base.train, batch_size=16, device="cpu"),
    )


@pytest.fixture(scope="session")
def record(small_recipe):
    from pippin.bench.measure import bench

    return bench(small_recipe, "small", BENCH, Console(quiet=True))

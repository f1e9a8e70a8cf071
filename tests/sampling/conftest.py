# SPDX-License-Identifier: Apache-2.0
"""A data distribution whose perfect denoiser is known: independent Gaussian numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch

from pippin.sampling.solvers import Estimate


@dataclass(frozen=True)
class Gaussian:
    """x0 ~ N(mean, std^2), each number alone."""

    mean: float = 0.7
    std: float = 0.4

    def denoise(self, x, point):
        """E[x0 | x] and the eps that goes with it."""
        variance = point.alpha**2 * self.std**2 + point.sigma**2
        innovation = x - point.alpha * self.mean
        x0 = self.mean + point.alpha * self.std**2 / variance * innovation
        return Estimate(x0, point.sigma / variance * innovation)

    def state(self, z, point):
        """Where the probability-flow ODE carries the standardised value z: it keeps z."""
        spread = (point.alpha**2 * self.std**2 + point.sigma**2) ** 0.5
        return point.alpha * self.mean + spread * z

    def error(self, solver, grid: Sequence) -> float:
        """Largest error of a solver at the end of the grid, from z in -2..2, in float64."""
        z = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(1, 1, 3, 3)
        end = solver(self.denoise, self.state(z, grid[0]), grid, lambda step: z)
        return (end - self.state(z, grid[-1])).abs().max().item()


@pytest.fixture
def gaussian() -> Gaussian:
    return Gaussian()

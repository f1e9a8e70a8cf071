# SPDX-License-Identifier: Apache-2.0
"""Drawn times against their densities."""

import pytest
import torch
from scipy import stats
from torch import distributions

from pippin import rng
from pippin.diffusion.config import LogitNormalTime, UniformTime
from pippin.diffusion.schedules import make_schedule
from pippin.diffusion.times import draw_times

LOGIT_NORMALS = [(0.0, 1.0), (-0.6, 1.3), (1.5, 0.4)]


def _draws(density, name, count=20_000):
    return draw_times(density, rng.uniform((count,), "time", 0, 0), make_schedule(name))


def _pdf(mean, std, fraction):
    """Density of sigmoid(normal), by torch."""
    law = distributions.TransformedDistribution(
        distributions.Normal(mean, std), [distributions.SigmoidTransform()]
    )
    return law.log_prob(fraction).exp()


def _cdf(mean, std):
    """Density integrated by the midpoint rule, 1e-5 at 20000 points."""
    edges = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    mass = _pdf(mean, std, (edges[1:] + edges[:-1]) / 2).cumsum(0) / 20_000
    assert mass[-1].item() == pytest.approx(1, abs=1e-5)
    total = torch.cat([torch.zeros(1), mass])
    return lambda fraction: total[(torch.as_tensor(fraction) * 20_000).round().long()].numpy()


def test_uniform_flow_times():
    """Kolmogorov-Smirnov; the seed is fixed, a wrong density gives p < 1e-9."""
    fraction = _draws(UniformTime(), "flow").double() / 1000
    assert stats.kstest(fraction.numpy(), "uniform").pvalue > 0.01


@pytest.mark.parametrize(("mean", "std"), LOGIT_NORMALS)
def test_logit_normal_flow_times(mean, std):
    fraction = _draws(LogitNormalTime(mean=mean, std=std), "flow").double() / 1000
    assert stats.kstest(fraction.numpy(), _cdf(mean, std)).pvalue > 0.01
    assert stats.kstest(fraction.numpy(), _cdf(mean + 0.2, std)).pvalue < 1e-9


def test_uniform_discrete_times_are_all_indices_equally_often():
    uniforms = (torch.arange(50_000, dtype=torch.float64) + 0.5) / 50_000
    times = draw_times(UniformTime(), uniforms, make_schedule("sd"))
    assert torch.equal(times.long().bincount(), torch.full((1000,), 50))
    assert torch.equal(times, times.floor())


@pytest.mark.parametrize(("mean", "std"), LOGIT_NORMALS)
def test_logit_normal_discrete_times(mean, std):
    """Index i has the mass between i / 1000 and (i + 1) / 1000; chi-squared over 20 bins."""
    times = _draws(LogitNormalTime(mean=mean, std=std), "sd")
    assert torch.equal(times, times.floor())
    seen = (times.long() // 50).bincount(minlength=20).double()
    cdf = torch.as_tensor(_cdf(mean, std)(torch.linspace(0, 1, 21, dtype=torch.float64)))
    expected = cdf.diff() * len(times)
    kept = expected > 5
    statistic = ((seen - expected) ** 2 / expected)[kept].sum().item()
    assert stats.chi2.sf(statistic, int(kept.sum()) - 1) > 0.01
    assert seen[~kept].sum() <= 30


@pytest.mark.parametrize("name", ["sd", "flow"])
@pytest.mark.parametrize("density", [UniformTime(), LogitNormalTime(mean=3, std=2)])
def test_extreme_uniforms_stay_inside(name, density):
    """0 and the largest fp32 number below 1, which torch.rand can return."""
    schedule = make_schedule(name)
    times = draw_times(density, torch.tensor([0.0, 1 - 2**-24]), schedule)
    assert times.dtype == torch.float32
    assert times[0] == 0 and 0 < times[1] <= schedule.max_time
    assert schedule.alpha(times).isfinite().all()


def test_times_grow_with_the_uniform_numbers():
    """Inverse-CDF draws, which allow paired and stratified draws."""
    uniforms = torch.linspace(0.001, 0.999, 500)
    times = draw_times(LogitNormalTime(), uniforms, make_schedule("flow"))
    assert (times.diff() > 0).all()


def test_a_density_without_width_is_refused():
    with pytest.raises(
        ValueError, match=r"diffusion\.time_density\.std must be more than 0; got 0"
    ):
        draw_times(LogitNormalTime(std=0.0), torch.rand(3), make_schedule("flow"))

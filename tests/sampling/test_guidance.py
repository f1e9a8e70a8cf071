# SPDX-License-Identifier: Apache-2.0
"""Two-scale guidance against the written formula, and what it computes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pippin import rng
from pippin.config import ConfigError
from pippin.diffusion.schedules import make_schedule
from pippin.sampling.config import GuidanceConfig
from pippin.sampling.guidance import guidance_weights, guided, scale_at_resolution, separate_terms
from pippin.types import Prediction

SCALES = st.floats(-3, 8)
SCHEDULE = make_schedule("sd")
T = 500.0


class Toy:
    """Recorded predictions: base + control effect + semantic effect + their interaction."""

    def __init__(self, channels=4, dtype=torch.float32):
        shape = (2, channels, 3, 3)
        parts = [rng.normal(shape, "noise", k).to(dtype) for k in range(4)]
        self.base, self.control, self.semantic, self.both = parts
        self.prepared, self.calls = [], []

    def mean(self, semantic, control):
        return (
            self.base
            + semantic * self.semantic
            + control * self.control
            + (semantic and control) * self.both
        )

    def term(self, semantic, control):
        self.prepared.append((semantic, control))

        def predict(x_t, t):
            self.calls.append((semantic, control))
            mean = self.mean(semantic, control)
            return Prediction(mean=mean, variance=2 * mean, aux=3 * mean)

        return predict

    def __call__(self, t=T, **config):
        predict = guided(separate_terms(self.term), GuidanceConfig(**config), SCHEDULE)
        return predict(torch.zeros_like(self.base), t)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(lam=SCALES, beta=SCALES)
def test_the_formula(lam, beta):
    """lambda [beta e(c,s) + (1-beta) e(0,s)] + (1-lambda) e(0,0); 1e-3 for sums up to 100."""
    toy = Toy()
    e_cs, e_0s, e_00 = toy.mean(True, True), toy.mean(True, False), toy.mean(False, False)
    wanted = lam * (beta * e_cs + (1 - beta) * e_0s) + (1 - lam) * e_00
    found = toy(semantic_scale=lam, control_scale=beta).mean
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-3)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(lam=SCALES, beta=SCALES)
def test_the_formula_with_the_control_kept_in_the_reference(lam, beta):
    toy = Toy()
    e_cs, e_0s, e_c0 = toy.mean(True, True), toy.mean(True, False), toy.mean(False, True)
    wanted = lam * (beta * e_cs + (1 - beta) * e_0s) + (1 - lam) * e_c0
    found = toy(semantic_scale=lam, control_scale=beta, reference="control").mean
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-3)
    assert (False, False) not in toy.prepared


@pytest.mark.parametrize("reference", ["null", "control"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(lam=SCALES, beta=SCALES)
def test_the_weights_sum_to_one(reference, lam, beta):
    config = GuidanceConfig(semantic_scale=lam, control_scale=beta, reference=reference)
    weights = guidance_weights(config)
    assert sum(weights.values()) == pytest.approx(1, abs=1e-12)
    assert 0 not in weights.values()


@pytest.mark.parametrize(
    ("lam", "beta", "terms"),
    [
        (1.0, 1.0, [(True, True)]),
        (4.0, 1.0, [(True, True), (False, False)]),
        (1.0, 2.0, [(True, True), (True, False)]),
        (4.0, 2.0, [(True, True), (True, False), (False, False)]),
        (4.0, 0.0, [(True, False), (False, False)]),
        (1.0, 0.0, [(True, False)]),
        (0.0, 3.0, [(False, False)]),
    ],
)
def test_only_terms_with_weight_are_prepared_and_computed(lam, beta, terms):
    toy = Toy()
    toy(semantic_scale=lam, control_scale=beta)
    assert toy.prepared == toy.calls == terms


def test_terms_are_prepared_once():
    toy = Toy()
    predict = guided(separate_terms(toy.term), GuidanceConfig(semantic_scale=2.0), SCHEDULE)
    for _ in range(3):
        predict(toy.base, T)
    assert len(toy.prepared) == 2 and len(toy.calls) == 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_guidance_the_conditional_prediction_bit_for_bit(dtype):
    toy = Toy(dtype=dtype)
    found = toy()
    assert found.mean.dtype == dtype and torch.equal(found.mean, toy.mean(True, True))
    assert toy.calls == [(True, True)]


def test_variance_is_the_conditional_one_and_aux_is_dropped():
    for config in ({}, {"semantic_scale": 3.0}):
        toy = Toy()
        found = toy(**config)
        assert torch.equal(found.variance, 2 * toy.mean(True, True))
        assert found.aux is None
    assert Toy()(semantic_scale=0.0).variance is None


@pytest.mark.parametrize("channels", [4, 16, 32])
def test_all_channels_are_guided(channels):
    toy = Toy(channels)
    moved = (toy(semantic_scale=3.0).mean - toy.mean(True, True)).abs()
    assert (moved.amax(dim=(0, 2, 3)) > 0.1).all()


@pytest.mark.parametrize("channels", [4, 16, 32])
def test_only_the_first_channels_if_asked(channels):
    toy = Toy(channels)
    found, everything = toy(semantic_scale=3.0, cfg_channels=3).mean, toy(semantic_scale=3.0).mean
    assert torch.equal(found[:, :3], everything[:, :3])
    assert torch.equal(found[:, 3:], toy.mean(True, True)[:, 3:])


def test_other_channels_are_conditional_even_where_that_term_has_no_weight():
    toy = Toy()
    found = toy(semantic_scale=0.0, cfg_channels=3).mean
    assert torch.equal(found[:, :3], toy.mean(False, False)[:, :3])
    assert torch.equal(found[:, 3:], toy.mean(True, True)[:, 3:])


@pytest.mark.parametrize(("t", "inside"), [(100.0, False), (500.0, True), (900.0, False)])
def test_guidance_inside_a_log_snr_interval_only(t, inside):
    """sd: log-SNR is 2.1, -1.0 and -4.2 at these times."""
    toy = Toy()
    found = toy(t, semantic_scale=3.0, log_snr_interval=(-3.0, 1.0)).mean
    if inside:
        assert torch.equal(found, toy(semantic_scale=3.0).mean)
    else:
        assert torch.equal(found, toy.mean(True, True)) and toy.calls == [(True, True)]


def test_the_interval_includes_its_ends():
    at = SCHEDULE.log_snr(torch.tensor(500.0, dtype=torch.float64)).item()
    for interval in ((at, at + 1), (at - 1, at)):
        toy = Toy()
        toy(semantic_scale=3.0, log_snr_interval=interval)
        assert len(toy.calls) == 2


def test_bf16_predictions_are_combined_in_float32():
    toy = Toy(dtype=torch.bfloat16)
    found = toy(semantic_scale=7.5).mean
    conditional, null = toy.mean(True, True).double(), toy.mean(False, False).double()
    assert found.dtype == torch.float32
    wanted = (7.5 * conditional - 6.5 * null).float()
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"cfg_channels": 0}, r"guidance\.cfg_channels must be 1 or more"),
        ({"cfg_channels": 5, "semantic_scale": 2.0}, "only 4 channels"),
        ({"log_snr_interval": (1.0, -1.0)}, r"must be \(low, high\) with low < high; got \(1"),
    ],
)
def test_wrong_settings_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        Toy()(**config)


@pytest.mark.parametrize("t", [0.0, 250.0, 700.0, 999.0])
def test_the_power_cosine_scale_of_mdt(t):
    toy, share = Toy(), (1 - t / 1000) ** 4
    scale = 1 + (3.8 - 1) * (1 - math.cos(math.pi * share)) / 2
    found = toy(t, semantic_scale=3.8, semantic_power=4.0).mean
    e_cs, e_00 = toy.mean(True, True), toy.mean(False, False)
    torch.testing.assert_close(found, e_00 + scale * (e_cs - e_00), rtol=1e-5, atol=1e-5)


def test_the_power_cosine_scale_costs_one_evaluation_where_it_is_off():
    toy = Toy()
    toy(1000.0, semantic_scale=3.8, semantic_power=4.0)
    assert toy.calls == [(True, True)]


@pytest.mark.parametrize("power", [0.0, -1.0, math.inf])
def test_a_power_that_is_none_is_refused(power):
    with pytest.raises(ConfigError, match="semantic_power must be more than 0"):
        GuidanceConfig(semantic_power=power)


@pytest.mark.parametrize(
    ("scale", "ratio", "wanted"), [(1.5, 2, 2.0), (4.0, 0.5, 2.5), (1.0, 4, 1)]
)
def test_the_scale_at_another_resolution(scale, ratio, wanted):
    assert scale_at_resolution(scale, ratio) == wanted
    assert scale_at_resolution(scale_at_resolution(scale, ratio), 1 / ratio) == scale


def test_a_ratio_of_nothing_is_refused():
    with pytest.raises(ValueError, match="above 0; got 0"):
        scale_at_resolution(2.0, 0)

# SPDX-License-Identifier: Apache-2.0
"""Matched drift of known curves."""

import pytest
import torch

from pippin.evaluation.metrics.drift import CurvePoint, matched_drift

GENERATOR = torch.Generator().manual_seed(0)
NOISE = torch.randn(200, generator=GENERATOR)


def curve(slope, scales=(0.5, 1.0, 2.0), spread=0.0, bend=1.0):
    """Effect beta, drift slope * beta ** bend, with the same noise in every pair's drift."""
    return [
        CurvePoint(
            scale=beta,
            drift=slope * torch.full((200,), beta) ** bend * (1 + spread * NOISE),
            effect=torch.full((200,), beta),
        )
        for beta in scales
    ]


def matched(points, real_effect=1.5):
    real = torch.full((len(points[0].drift),), real_effect)
    return matched_drift("size", points, real, seed=0, protocol={})


def test_a_straight_line_is_interpolated_exactly_from_any_points():
    for scales in ((0.5, 1.0, 2.0), (2.0,), (1.0, 0.25)):
        (result,) = matched(curve(0.2, scales))
        assert result.value == pytest.approx(0.2 * 0.75)
        assert result.low == pytest.approx(result.value) and result.high == pytest.approx(
            result.value
        )
        assert (
            result.name == "matched drift size" and result.protocol["share_of_real_effect"] == 0.5
        )


def test_a_more_responsive_model_has_the_same_matched_drift():
    """Twice the effect and twice the drift at each beta is the same curve."""
    twice = [
        CurvePoint(scale=point.scale, drift=2 * point.drift, effect=2 * point.effect)
        for point in curve(0.2)
    ]
    assert matched(twice)[0].value == pytest.approx(matched(curve(0.2))[0].value)


def test_between_points_of_a_bent_curve_it_is_linear():
    (result,) = matched(curve(0.2, bend=2.0))
    assert result.value == pytest.approx(0.2 * (0.25 + 1.0) / 2)


def test_the_interval_covers_the_noise_of_pairs():
    (result,) = matched(curve(0.2, spread=0.5))
    mean = 0.15 * (1 + 0.5 * NOISE.mean())
    half = 1.96 * 0.15 * 0.5 * NOISE.std() / 200**0.5
    assert result.value == pytest.approx(float(mean), rel=1e-6)
    assert result.low == pytest.approx(float(mean - half), abs=0.003)
    assert result.high == pytest.approx(float(mean + half), abs=0.003)


def test_an_unresponsive_model_has_no_matched_drift():
    unresponsive = [
        CurvePoint(scale=beta, drift=torch.zeros(8), effect=torch.zeros(8))
        for beta in (0.5, 1.0, 2.0)
    ]
    assert matched(unresponsive) == []
    assert matched(curve(0.2), real_effect=8.0) == []


def test_real_pairs_are_resampled_with_the_others():
    """All pairs have equal drift at each beta: only the target effect varies."""
    real = 1.5 + 0.5 * NOISE
    (result,) = matched_drift("size", curve(0.2), real, seed=0, protocol={})
    mean, error = 0.1 * real.mean(), 0.1 * real.std() / 200**0.5
    assert result.value == pytest.approx(float(mean), rel=1e-5)
    assert result.low == pytest.approx(float(mean - 1.96 * error), abs=0.003)


def test_an_upper_end_beyond_the_resamples_is_none():
    weak = [
        CurvePoint(
            scale=2.0,
            drift=torch.full((200,), 0.4),
            effect=0.76 + 0.5 * NOISE - 0.5 * NOISE.mean(),
        )
    ]
    (result,) = matched(weak)
    assert result.value < 0.4 and result.high is None and result.low is not None


def test_real_pairs_without_effect_give_nothing():
    assert matched(curve(0.2), real_effect=0.0) == []


def test_one_pair_has_no_interval():
    points = [
        CurvePoint(scale=point.scale, drift=point.drift[:1], effect=point.effect[:1])
        for point in curve(0.2)
    ]
    (result,) = matched(points)
    assert result.value == pytest.approx(0.15)
    assert (result.low, result.high, result.interval_over) == (None, None, "none")

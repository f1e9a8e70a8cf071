# SPDX-License-Identifier: Apache-2.0
"""EMA against its closed form."""

import pytest
import torch
from torch import nn

from pippin.training.averaging.config import ImagesHalfLife, ShareHalfLife
from pippin.training.ema import EMA, RAMP, half_life_images


def number(value):
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(value)
    return model


def test_half_the_distance_is_left_after_a_half_life():
    model = number(1.0)
    ema = EMA(model, half_life=100)
    with torch.no_grad():
        model.weight.fill_(0.0)
    for step in range(10):  # ten steps of ten images, late enough that the ramp is over
        ema.update(model, batch_size=10, images_seen=5000 + 10 * step)
    assert ema.weights["weight"].item() == pytest.approx(0.5, abs=1e-5)


def test_the_curve_does_not_depend_on_batch_size():
    ends = []
    for batch in (5, 50):
        model, ema = number(0.0), EMA(number(1.0), half_life=200)
        for images in range(10_000 + batch, 10_500 + 1, batch):
            ema.update(model, batch_size=batch, images_seen=images)
        ends.append(ema.weights["weight"].item())
    assert ends[0] == pytest.approx(ends[1], abs=1e-5)
    assert ends[0] == pytest.approx(0.5**2.5, abs=1e-5)


def test_the_initial_weights_fade_early():
    model, ema = number(0.0), EMA(number(1.0), half_life=1e9)
    for images in range(10, 1001, 10):
        ema.update(model, batch_size=10, images_seen=images)
    # each step halves 10 / (RAMP * images) times: the product over 100 steps
    expected = 0.5 ** sum(10 / (RAMP * images) for images in range(10, 1001, 10))
    assert ema.weights["weight"].item() == pytest.approx(expected, abs=1e-6)
    assert expected < 1e-10


def test_swapping_restores_the_own_weights_bit_for_bit():
    model = number(0.3)
    ema = EMA(number(0.7), half_life=1.0)
    before = model.weight.detach().clone()
    with pytest.raises(RuntimeError, match="inside"), ema.swapped_into(model):
        assert model.weight.item() == pytest.approx(0.7)
        raise RuntimeError("inside")
    assert torch.equal(model.weight, before)


def test_half_life_units():
    assert half_life_images(ImagesHalfLife(images=500), 1000) == 500
    assert half_life_images(ShareHalfLife(share=0.05), 1000) == 50

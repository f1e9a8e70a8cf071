# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules against their closed forms."""

import math
from dataclasses import replace

import pytest
import torch
from small_trainer import CONFIG, batches, make_trainer

from pippin.config import ConfigError, protocol
from pippin.recipes.table import get_recipe
from pippin.training.config import TrainConfig
from pippin.training.optimizer import lr_multiplier

COSINE = replace(CONFIG, images=1000, batch_size=10, warmup_images=200, lr_schedule="cosine")
WSD = replace(CONFIG, images=1000, batch_size=10, lr_schedule="wsd", decay_share=0.25)


def factors(config):
    return [lr_multiplier(config, step) for step in range(config.total_steps)]


def test_cosine_is_half_a_cosine_from_the_end_of_the_warm_up():
    found = factors(COSINE)
    for step, factor in enumerate(found):
        n = (step + 0.5) * 10
        closed = n / 200 if n < 200 else math.cos(math.pi * (n - 200) / 800 / 2) ** 2
        assert factor == pytest.approx(closed, abs=1e-12), step
    assert found[60 - 1] == pytest.approx(0.5, abs=0.01)  # halfway between 200 and 1000


def test_wsd_is_constant_and_then_falls_by_one_minus_the_square_root():
    found = factors(WSD)
    assert set(found[:75]) == {1.0}
    for step in range(75, 100):
        progress = ((step + 0.5) * 10 - 750) / 250
        assert found[step] == pytest.approx(1 - math.sqrt(progress), abs=1e-12), step


@pytest.mark.parametrize("config", [COSINE, WSD, replace(WSD, lr_schedule="trapezoid")])
def test_a_floor_ends_the_decay_and_leaves_the_peak(config):
    low, floor = factors(config), factors(replace(config, lr_floor=0.1))
    warm = config.warmup_images // config.batch_size
    for a, b in list(zip(low, floor, strict=True))[warm:]:
        assert b == pytest.approx(0.1 + 0.9 * a, abs=1e-12)
    assert floor[:warm] == low[:warm]


@pytest.mark.parametrize("config", [COSINE, WSD])
def test_a_schedule_is_read_in_images_whatever_the_batch(config):
    """The rate of a large step is that of the small step around its middle."""
    large, small = factors(replace(config, batch_size=50)), factors(replace(config, batch_size=10))
    for step, factor in enumerate(large):
        assert factor == pytest.approx(small[5 * step + 2], abs=1e-12)


@pytest.mark.parametrize("images", [1, 63, 1000])
@pytest.mark.parametrize("warmup_images", [0, 32, 5000])
@pytest.mark.parametrize("schedule", [{"lr_schedule": "cosine"}, {"lr_schedule": "wsd"}])
def test_no_step_has_rate_0(images, warmup_images, schedule):
    share = 0.0 if schedule["lr_schedule"] == "cosine" else 1.0
    settings = {"images": images, "warmup_images": warmup_images, "decay_share": share}
    found = factors(replace(CONFIG, batch_size=64, **settings, **schedule))
    assert all(0 < factor <= 1 for factor in found)


def test_a_resumed_run_continues_its_schedule_bit_for_bit(tmp_path):
    settings = {"lr_schedule": "cosine", "warmup_images": 40, "images": 80}
    whole = make_trainer(tmp_path / "whole", **settings)
    whole.train(batches(), [])
    resumed = make_trainer(tmp_path / "resumed", **settings)
    resumed.restore(tmp_path / "whole" / "checkpoints" / "40")
    resumed.train(batches(start_step=resumed.step_count), [])
    for p, q in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr_schedule": "cosine", "decay_share": 0.2}, "no effect on train.lr_schedule cosine"),
        ({"lr_schedule": "wsd"}, "wsd needs train.decay_share"),
        ({"lr_floor": 0.1}, "no effect without a decay"),
        ({"lr_floor": 1.0, "decay_share": 0.2}, "0 or more and below 1; got 1.0"),
    ],
)
def test_settings_without_effect_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(images=10, **settings)


def test_recipes_keep_their_fingerprint_and_records_without_the_settings_are_read():
    recipe = get_recipe("openmoji/mmdit-disentangled")
    assert not {"train.lr_schedule", "train.lr_floor"} & set(protocol(recipe))
    record = recipe.to_dict()
    del record["train"]["lr_schedule"], record["train"]["lr_floor"]
    assert type(recipe).from_dict(record) == recipe
    other = replace(recipe, train=replace(recipe.train, lr_schedule="wsd"))
    assert protocol(other)["train.lr_schedule"] == "wsd"

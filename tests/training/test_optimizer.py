# SPDX-License-Identifier: Apache-2.0
"""Assignment of parameters to optimizers, and learning-rate schedules."""

from dataclasses import replace

import pytest
import torch
from small_trainer import CONFIG, batches, make_trainer

from pippin.training.muon import Muon
from pippin.training.optimizer import lr_multiplier

SCHEDULE = replace(CONFIG, images=100, batch_size=10, warmup_images=20, decay_share=0.2)


def shares(config):
    return [lr_multiplier(config, step) for step in range(config.total_steps)]


def test_rates_rise_stay_and_fall_at_the_middle_of_each_step():
    assert shares(SCHEDULE) == pytest.approx([0.25, 0.75, *[1.0] * 6, 0.75, 0.25])


def test_recorded_runs_read_their_rates_at_the_end_of_each_step():
    end = replace(SCHEDULE, lr_at="end")
    assert shares(end) == pytest.approx([0.5, *[1.0] * 7, 0.5, 0.0])
    assert lr_multiplier(replace(end, batch_size=8), 12) == 0.0  # 104 images


@pytest.mark.parametrize("images", [1, 63, 64, 100, 1000])
@pytest.mark.parametrize("warmup_images", [0, 32, 5000])
@pytest.mark.parametrize("decay_share", [0.0, 0.2, 1.0])
def test_no_step_has_rate_0(images, warmup_images, decay_share):
    """For any division of the run into batches, and any meeting point of warm-up and decay."""
    schedule = {"images": images, "warmup_images": warmup_images, "decay_share": decay_share}
    found = shares(replace(CONFIG, batch_size=64, **schedule))
    assert len(found) == -(-images // 64)
    assert all(0 < share <= 1 for share in found)


def test_a_schedule_counts_images_whatever_the_batch():
    """The mean rate over any range of images made of full batches is the same."""
    small, large = (
        [s for s in shares(replace(SCHEDULE, batch_size=n)) for _ in range(n)] for n in (2, 10)
    )
    for start in range(0, 100, 10):
        stretch = slice(start, start + 10)
        assert sum(small[stretch]) == pytest.approx(sum(large[stretch]))


def test_without_warm_up_and_decay_rates_are_constant():
    assert set(shares(replace(CONFIG, images=100))) == {1.0}


def test_a_run_of_one_step_moves_its_weights(tmp_path):
    trainer = make_trainer(tmp_path, images=3, batch_size=8, decay_share=0.2, warmup_images=40)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.train(batches(), [])
    assert trainer.step_count == 1
    assert any(
        not torch.equal(p, q) for p, q in zip(before, trainer.model.parameters(), strict=True)
    )


def test_every_parameter_has_one_optimizer(tmp_path):
    trainer = make_trainer(tmp_path, muon_learning_rate=0.01)
    adam, muon = trainer.optimizers
    assert isinstance(muon, Muon)
    of_muon = {id(p) for group in muon.param_groups for p in group["params"]}
    of_adam = {id(p) for group in adam.param_groups for p in group["params"]}
    assert not of_muon & of_adam
    assert of_muon | of_adam == {id(p) for p in trainer.model.parameters()}
    for name, parameter in trainer.model.named_parameters():
        in_blocks = name.startswith("denoiser.blocks.")
        assert (id(parameter) in of_muon) == (in_blocks and parameter.ndim > 1), name


def test_muon_resumes_bit_for_bit(tmp_path):
    settings = {"muon_learning_rate": 0.01, "warmup_images": 40, "decay_share": 0.5}
    whole = make_trainer(tmp_path / "whole", **settings)
    whole.train(batches(), [])
    resumed = make_trainer(tmp_path / "resumed", **settings)
    resumed.restore(tmp_path / "whole" / "checkpoints" / "120")
    resumed.train(batches(start_step=resumed.step_count), [])
    for (name, p), q in zip(
        whole.model.named_parameters(), resumed.model.parameters(), strict=True
    ):
        assert torch.equal(p, q), name

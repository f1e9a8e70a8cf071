# SPDX-License-Identifier: Apache-2.0
"""Which optimizer moves which parameter, and at which rate."""

from dataclasses import replace

import pytest
import torch
from small_trainer import CONFIG, batches, make_trainer

from pippin.muon import Muon
from pippin.training.optimizer import rate_share


@pytest.mark.parametrize(
    ("images_seen", "share"),
    [(0, 0.0), (10, 0.5), (20, 1.0), (80, 1.0), (90, 0.5), (95, 0.25), (100, 0.0), (104, 0.0)],
)
def test_rates_rise_stay_and_fall(images_seen, share):
    config = replace(CONFIG, images=100, warmup_images=20, decay_share=0.2)
    assert rate_share(config, images_seen) == pytest.approx(share)


def test_without_warm_up_and_decay_rates_are_constant():
    assert {rate_share(replace(CONFIG, images=100), n) for n in (0, 1, 50, 100)} == {1.0}


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

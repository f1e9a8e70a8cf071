# SPDX-License-Identifier: Apache-2.0
"""The example of somebody else's conditioner, trained and scored as ControlBench does it."""

from dataclasses import replace

import pytest
import torch
from example_programs import load_example

from pippin.conditioning.conditioner import Conditioner
from pippin.config import ConfigError
from pippin.denoisers.mmdit.config import mmdit
from pippin.encoders.config import AutoencoderConfig
from pippin.model import build_model
from pippin.recipes.table import get_recipe
from pippin.studies.execution import execute
from pippin.studies.results import read
from pippin.studies.runner import run_study
from pippin.studies.shipped.controlbench import controlbench_study


@pytest.fixture(scope="module")
def example():
    return load_example("controlbench")


@pytest.fixture(scope="module")
def small(autoencoder_folder, tmp_path_factory):
    base = get_recipe("openmoji/mmdit-disentangled")
    return replace(
        base,
        data=replace(base.data, resolution=32, views=1, max_pictures=24),
        autoencoder=AutoencoderConfig(source=str(autoencoder_folder)),
        cache=replace(base.cache, folder=str(tmp_path_factory.mktemp("caches"))),
        denoiser=replace(mmdit("tiny", patch_size=4), depth=1, width=32, num_heads=2),
        train=replace(base.train, images=16, batch_size=8, device="cpu"),
        sampling=replace(base.sampling, solver="dpm++", steps=1),
        evaluation=replace(
            base.evaluation,
            parts=("held-out", "quality", "drift"),
            num_samples=8,
            input_size=32,
            drift_pairs=2,
        ),
    )


def test_the_example_is_trained_and_scored_beside_the_two(example, small, tmp_path):
    study = controlbench_study({"test-token": example.ControlToken}, base=small, seeds=(0,))
    assert list(study.arms()) == ["entangled", "disentangled", "test-token"]
    summary = run_study(study, tmp_path, execute, print)
    assert set(summary.statuses.values()) == {"finished"}
    rows = read(tmp_path / "results.jsonl").rows
    found = {(row.arm, row.metric): row for row in rows if row.subject == "arm"}
    for arm in study.arms():
        for metric in ("excess drift original_size", "effect original_size at beta 2"):
            assert found[arm, metric].value is not None, (arm, metric)
    assert len({row.comparable for row in rows if row.metric == "drift original_size"}) == 1
    parameters = {arm: found[arm, "parameters"].value for arm in study.arms()}
    assert parameters["test-token"] == parameters["disentangled"] + 32 * 33  # one linear layer


def test_the_example_responds_to_control_through_tokens_alone(example):
    study = controlbench_study({"test-token": example.ControlToken})
    recipe = study.arms()["test-token"]
    model = build_model(
        recipe.conditioning, recipe.denoiser, num_classes=11, latent_channels=4, seed=0
    )
    torch.nn.init.ones_(model.conditioner.low.fields["original_size"].linear_out.weight)
    from pippin.control import Size
    from pippin.data.views.crop import whole_image
    from pippin.types import Conditions, stack_controls

    controls = stack_controls([whole_image(Size(side, side)) for side in (24, 256)])
    prepared = model.prepare(Conditions(label=torch.zeros(2).long(), control=controls))
    embedded = prepared.at(torch.full((2,), 300.0))
    assert torch.equal(embedded.modulation[0], embedded.modulation[1])
    assert not torch.equal(embedded.tokens[0], embedded.tokens[1])


def test_without_a_conditioner_the_two_ways_alone():
    assert list(controlbench_study({}, correlation=0.5).arms()) == ["entangled", "disentangled"]


def test_a_taken_name_is_refused():
    with pytest.raises(ConfigError, match="registered already"):
        controlbench_study({"pippin": type("Other", (Conditioner,), {})})


def test_the_arms_that_are_there_keep_their_names():
    with pytest.raises(ConfigError, match="'disentangled' is an arm of ControlBench already"):
        controlbench_study({"disentangled": type("Other", (Conditioner,), {})})

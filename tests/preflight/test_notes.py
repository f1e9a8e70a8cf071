# SPDX-License-Identifier: Apache-2.0
"""Notes on settings that work, but slowly or badly: once for each command, where they apply."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from pippin import rng
from pippin.cli import sample, starts, study
from pippin.cli.starts import Preflight
from pippin.conditioning.config import ConditioningConfig
from pippin.config import replace_at
from pippin.denoisers.ddt.config import ddt
from pippin.denoisers.dit.config import DiTConfig, dit
from pippin.denoisers.mmdit.config import mmdit
from pippin.diffusion.config import DiffusionConfig, MeanFlowConfig
from pippin.diffusion.meanflow import total_derivative
from pippin.model import build_model
from pippin.objective.setting_checks import meanflow_time_note
from pippin.preflight.notes import start_notes, training_notes
from pippin.preflight.start import Start
from pippin.runs.folder import RunFolder
from pippin.studies.shipped.table import get_study
from pippin.types import Conditions

EMULATES = {"architecture": "x86_64", "avx2": True}
FLOW = DiffusionConfig(schedule="flow", prediction="flow")
MEANFLOW = replace(FLOW, meanflow=MeanFlowConfig(share=0.25))


@pytest.fixture(autouse=True)
def without_bf16_units(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: EMULATES, raising=False)


@pytest.fixture
def in_bf16(recipe):
    return replace_at(replace_at(recipe, "train.precision", "bf16"), "train.device", "cpu")


def test_training_and_sampling_in_bf16_are_noted_each(in_bf16):
    (note,) = training_notes(in_bf16)
    assert "type --train.precision fp32" in note
    both = list(training_notes(replace_at(in_bf16, "sampling.precision", "bf16")))
    assert both[0] == note and "type --sampling.precision fp32" in both[1] and len(both) == 2
    assert not list(training_notes(replace_at(in_bf16, "train.precision", "fp32")))


def test_only_a_start_on_this_machine_is_noted(in_bf16, tmp_path, monkeypatch):
    run = RunFolder(tmp_path / "run")
    assert len(start_notes(Start(in_bf16, in_bf16, run))) == 1
    assert not start_notes(Start(in_bf16, in_bf16, None))
    assert not start_notes(Start(in_bf16, in_bf16, run, elsewhere=True))
    resumed = Start(in_bf16, in_bf16, run)
    resumed.resumes = True
    assert not start_notes(resumed)


def test_pippin_train_prints_the_note_after_its_checks(in_bf16, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(starts, "check_before_start", lambda start: None)
    Preflight(RunFolder(tmp_path / "run")).begin(in_bf16, in_bf16)
    assert capsys.readouterr().err.startswith("note: train.precision bf16 is several times")


def test_a_study_prints_it_once_without_an_option_that_it_lacks(capsys):
    arms = get_study("semantic-path", scale="cpu")
    assert len(arms.arms()) > 1 and arms.base.train.precision == "bf16"
    study._print_notes(arms)
    said = capsys.readouterr().err
    assert said.count("note: train.precision bf16") == 1 and "--train.precision" not in said
    study._print_notes(replace(arms, base=replace_at(arms.base, "train.device", "cuda:77")))
    assert not capsys.readouterr().err


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_pippin_sample_prints_it(precision, monkeypatch, capsys):
    components = SimpleNamespace(device=torch.device("cpu"))
    run = SimpleNamespace(components=components)
    note = sample._slow_note(run, replace_at(sample.SamplingConfig(), "precision", precision))
    assert (note is not None) == (precision == "bf16")


def test_times_up_to_1000_are_noted_for_mean_velocities():
    assert meanflow_time_note(MEANFLOW, dit("tiny")).count("set --denoiser.time-input data,") == 1
    assert "denoiser.kind to jit or ddt" in meanflow_time_note(MEANFLOW, mmdit("tiny"))
    for denoiser in (dit("tiny", time_input="data"), ddt("S")):
        assert meanflow_time_note(MEANFLOW, denoiser) is None
    assert meanflow_time_note(FLOW, dit("tiny")) is None


def test_a_training_of_mean_velocities_gets_the_note(recipe):
    noted = replace(recipe, denoiser=dit("tiny"), diffusion=MEANFLOW)
    assert [note.partition(" is ")[0] for note in training_notes(noted)] == [
        "diffusion.meanflow.share"
    ]
    assert not list(training_notes(replace(noted, denoiser=dit("tiny", time_input="data"))))


def relative_derivative(time_input: str) -> float:
    """Size of du/dt over that of u, of a network without zero weights."""
    denoiser = DiTConfig(depth=2, width=64, num_heads=4, time_input=time_input)
    conditioning = ConditioningConfig(rules={"label": "modulation"}, interval=True)
    conditioning = replace_at(replace_at(conditioning, "control.high", ()), "control.low", ())
    model = build_model(conditioning, denoiser, num_classes=3, latent_channels=4, seed=0)
    with torch.no_grad():
        for place, weight in enumerate(model.parameters()):
            weight += 0.05 * rng.normal(tuple(weight.shape), "init", place)
    x, velocity = (rng.normal((8, 4, 8, 8), "noise", key) for key in (0, 1))
    prepared = model.prepare(Conditions(label=torch.arange(8) % 3, control={}))

    def mean_velocity(z: Tensor, t: Tensor, interval: Tensor) -> Float[Tensor, "..."]:
        return model(z, t, prepared, None, interval).mean

    t = torch.linspace(50, 950, 8)
    with torch.no_grad():
        slope = total_derivative(mean_velocity, x, t, t / 2, velocity)
        return float(slope.std() / mean_velocity(x, t, t / 2).std())


def test_times_up_to_1000_have_a_much_larger_derivative():
    """The reason for the note: the target is v - (t - r) du/dt."""
    assert relative_derivative("noise") > 10 * relative_derivative("data")

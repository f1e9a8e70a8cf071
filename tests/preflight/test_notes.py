# SPDX-License-Identifier: Apache-2.0
"""Notes on settings that work, but slowly or badly: once for each command, where they apply."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from pippin.cli import sample, starts, study
from pippin.cli.starts import Preflight
from pippin.config import replace_at
from pippin.diffusion.config import DiffusionConfig, MeanFlowConfig
from pippin.preflight.notes import start_notes, training_notes
from pippin.preflight.start import Start
from pippin.runs.folder import RunFolder
from pippin.studies.shipped.table import get_study

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

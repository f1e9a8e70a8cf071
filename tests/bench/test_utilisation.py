# SPDX-License-Identifier: Apache-2.0
"""Measured utilisation of a record in a plan."""

from dataclasses import replace

import pytest

from pippin.bench.utilisation import measured_utilisation
from pippin.cli.main import main
from pippin.config import ConfigError
from pippin.planning.devices import DEVICES

RECIPE = "openmoji/dit-entangled"


@pytest.fixture
def on_h100(record):
    return replace(record, machine=record.machine | {"device": "NVIDIA H100 80GB HBM3"})


def test_it_is_the_work_of_a_second_over_the_peak(on_h100):
    mode = on_h100.modes[0]
    assert mode.precision == "fp32"
    seconds = 1 / mode.images_per_second.median
    wanted = on_h100.step_flops / seconds / DEVICES["h100"].fp32
    assert measured_utilisation(on_h100, "fp32") == pytest.approx(wanted)


def test_records_that_do_not_say_it_are_refused(record, on_h100):
    with pytest.raises(ConfigError, match=r"on 'cpu', whose peak is unknown; .*--utilisation"):
        measured_utilisation(record, "fp32")
    with pytest.raises(ConfigError, match=r"no mode bf16 compiled, .* it has: fp32 eager, bf16"):
        measured_utilisation(on_h100, "bf16", compiled=True)


def test_a_plan_takes_it_from_a_record(on_h100, tmp_path, capsys):
    path = tmp_path / "record.json"
    half = DEVICES["h100"].fp32 / 2 / on_h100.modes[0].images_per_second.median
    replace(on_h100, step_flops=round(half)).save(path)
    given = ["plan", RECIPE, "--denoiser.depth", "1", "--utilisation-from", str(path)]
    assert main(given) == 0
    assert "50% of the peak" in capsys.readouterr().out
    assert main([*given, "--utilisation", "0.3"]) == 2
    assert "exclude each other" in capsys.readouterr().err

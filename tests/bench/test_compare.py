# SPDX-License-Identifier: Apache-2.0
"""Comparison of records, and its command line."""

from dataclasses import replace

import pytest

from pippin.bench.record import Spread, compare
from pippin.cli.main import main
from pippin.config import ConfigError


def faster(record, factor):
    modes = []
    for mode in record.modes:
        speed = mode.images_per_second
        scaled = Spread.over([factor * x for x in (speed.low, speed.median, speed.high)])
        modes.append(replace(mode, images_per_second=scaled))
    return replace(record, modes=tuple(modes))


def test_ratios_are_new_over_old(record):
    comparison = compare(record, faster(record, 100.0))
    assert [ratio.what for ratio in comparison.ratios] == [
        "fp32 eager",
        "bf16 eager",
        "loader alone",
    ]
    assert [ratio.value for ratio in comparison.ratios] == pytest.approx([100.0, 100.0, 1.0])
    assert [ratio.clear for ratio in comparison.ratios] == [True, True, False]
    assert comparison.notes == ()


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("machine", "threads", "96"),
        ("machine", "device", "another GPU"),
        ("settings", "train.batch_size", 17),
        ("settings", "denoiser.depth", 3),
    ],
)
def test_another_machine_or_setting_is_refused_by_name(record, part, name, value):
    other = replace(record, **{part: getattr(record, part) | {name: value}})
    with pytest.raises(ConfigError, match=f"{name}: .* -> {value}"):
        compare(record, other)


def test_versions_and_new_settings_are_noted(record):
    other = replace(
        record,
        versions=record.versions | {"torch": "9.9"},
        settings=record.settings | {"train.later": 1},
        step_flops=record.step_flops + 1,
    )
    notes = "\n".join(compare(record, other).notes)
    assert "9.9" in notes and "FLOPs" in notes
    assert "only the new record has the setting train.later" in notes


def test_no_mode_in_common_is_refused(record):
    first, second = (replace(record, modes=(mode,)) for mode in record.modes)
    with pytest.raises(ConfigError, match="no common mode"):
        compare(first, second)


def test_the_command_line_prints_ratios_and_refuses_with_code_2(record, tmp_path, capsys):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    record.save(old)
    faster(record, 2.0).save(new)
    assert main(["bench", "--compare", str(old), str(new)]) == 0
    assert "2.000" in capsys.readouterr().out
    replace(record, machine=record.machine | {"threads": "96"}).save(new)
    assert main(["bench", "--compare", str(old), str(new)]) == 2
    assert "threads" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--compare", "one.json"], "two records"),
        (["--against", "jax"], "diffusers only"),
        (["openmoji/none"], "no recipe"),
        (
            ["openmoji/dit-entangled", "--out", "missing/bench.json"],
            "folder missing does not exist",
        ),
    ],
)
def test_misuse_is_named(arguments, message, capsys):
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err

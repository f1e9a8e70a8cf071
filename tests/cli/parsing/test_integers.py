# SPDX-License-Identifier: Apache-2.0
"""Whole numbers of options: exact, in the usual short forms."""

from dataclasses import dataclass

import pytest

from pippin.cli.parsing.flags import parse_integer
from pippin.cli.parsing.options import parse
from pippin.planning.devices import Cluster


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("7", 7), ("-3", -3), ("+4", 4), (" 12 ", 12), ("0", 0), ("007", 7)),
        *(("1_000_000", 1_000_000), ("1e5", 100_000), ("1E+3", 1000), ("1.5e3", 1500)),
        *(("500k", 500_000), ("500K", 500_000), ("2M", 2_000_000), ("1.25M", 1_250_000)),
        ("10e-1", 1),
        # beyond the 53 bits of a float
        *(("9007199254740993", 2**53 + 1), ("9007199254.740993e6", 2**53 + 1)),
    ],
)
def test_short_forms_are_exact(text, value):
    assert parse_integer(text) == value


@pytest.mark.parametrize(
    "text",
    ["1.5", "1e-3", "2m", "k", "", "1__0", "_1", "1_", "0x10", "1 000", "1e5x", "nan", "1e999"],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match=r"give a whole number, such as 1000000, .* got"):
        parse_integer(text)


@dataclass(frozen=True, kw_only=True)
class _Inner:
    images: int = 1
    limit: int | None = None
    sides: tuple[int, ...] = ()
    shape: tuple[int, int] = (1, 1)


@dataclass(frozen=True, kw_only=True)
class _Command:
    train: _Inner = _Inner()
    rate: float = 0.5
    resume: bool = False


def test_every_integer_option_reads_them():
    words = "--train.images 1e5 --train.limit 2M --train.sides 1k 24 --train.shape 1_6 3"
    command = parse(_Command, "pippin", f"{words} --rate 1e-3".split(), _Command())
    assert command.train == _Inner(
        images=100_000, limit=2_000_000, sides=(1000, 24), shape=(16, 3)
    )
    assert command.rate == 1e-3
    assert parse(_Command, "pippin", ["--train.limit", "None"], _Command()).train.limit is None


def test_a_fraction_is_refused_by_name(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(_Command, "pippin", ["--train.images", "1.5"], _Command())
    assert stopped.value.code == 2
    message = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "--train.images" in message and "give a whole number" in message and "1.5" in message


def test_devices_are_named_in_any_case():
    assert Cluster(device="H100") == Cluster(device="h100")

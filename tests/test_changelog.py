# SPDX-License-Identifier: Apache-2.0
"""CHANGELOG.md in the form of Keep a Changelog 1.1, with the version of the package."""

import re
from datetime import date
from pathlib import Path

import pippin

TEXT = (Path(__file__).parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
KINDS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]


def versions():
    """(number, day) of each released version, in the order of the file."""
    headings = re.findall(r"^## (.+)$", TEXT, re.M)
    assert headings[0] == "Unreleased"
    return [
        re.fullmatch(r"(\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)", name).groups()
        for name in headings[1:]
    ]


def test_the_newest_version_is_that_of_the_package():
    assert versions()[0][0] == pippin.__version__


def test_versions_and_days_descend():
    numbers = [tuple(map(int, number.split("."))) for number, _ in versions()]
    days = [date.fromisoformat(day) for _, day in versions()]
    assert numbers == sorted(numbers, reverse=True) and days == sorted(days, reverse=True)
    assert len({*numbers}) == len(numbers)


def test_each_version_lists_kinds_of_changes():
    for section in re.split(r"^## ", TEXT, flags=re.M)[1:]:
        kinds = re.findall(r"^### (.+)$", section, re.M)
        assert kinds == [kind for kind in KINDS if kind in kinds], section.splitlines()[0]
    assert "### Added" in TEXT

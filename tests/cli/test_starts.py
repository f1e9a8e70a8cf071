# SPDX-License-Identifier: Apache-2.0
"""Start of a training from the command line."""

from types import SimpleNamespace

from pippin.cli import starts
from pippin.cli.starts import Preflight


def test_a_full_disk_after_the_last_step_costs_the_comparison_with_the_plan_only(monkeypatch):
    def full(start):
        raise OSError(28, "No space left on device", "plan.json")

    monkeypatch.setattr(starts, "write_plan_met", full)
    preflight = Preflight(None)
    preflight.start = SimpleNamespace(is_finished=False)
    (line,) = preflight.met_lines()
    assert "could not be kept" in line and "plan.json" in line

# SPDX-License-Identifier: Apache-2.0
"""``pippin demo``: the shipped study ``demo``, from pictures to a report."""

from dataclasses import dataclass
from pathlib import Path

from pippin.cli.options import parse


@dataclass(frozen=True, kw_only=True)
class DemoCommand:
    """Entangled against disentangled conditioning on the embedded pictures, in minutes."""

    folder: Path = Path("runs/demo")
    """Where everything goes; run the same command again to go on after a stop."""
    seeds: tuple[int, ...] = ()
    """Training seeds; none given = one."""


def main(argv: list[str]) -> int:
    """Parse and run the study."""
    command = parse(DemoCommand, "pippin demo", argv, DemoCommand())

    from pippin.cli.study import run

    return run("demo", command.folder, command.seeds)

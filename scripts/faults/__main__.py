# SPDX-License-Identifier: Apache-2.0
"""What happens when ...: provoke faults through the command line and print what was observed.

    python scripts/faults --folder DIR
    python scripts/faults --folder DIR --groups mistakes damage

Prints one markdown table a group: the fault, the exit code, the message, and whether files that
were there before are untouched. Exit code 1 where a fault was not met as this file says.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from fault import SAMPLE, train
from meet import meet, message
from of_input import MISTAKES, TWO
from of_signals import STOPS
from of_state import DAMAGE, FULL

GROUPS = {
    "mistakes": MISTAKES,
    "damage": DAMAGE,
    "full disk": FULL,
    "stops": STOPS,
    "two at once": TWO,
}


def trained_run(folder: Path) -> Path:
    """A small trained run with samples, for the faults to be copies of."""
    run = folder / "original"
    for arguments in (train("--folder", "{run}"), SAMPLE):
        command = [text.replace("{run}", str(run)) for text in arguments]
        subprocess.run(
            [sys.executable, "-m", "pippin.cli.main", *command], check=True, capture_output=True
        )
    return run


def copy_of(run: Path, place: Path) -> Path:
    """A run and its cache under another name."""
    shutil.copytree(run, place)
    shutil.copytree(f"{run}-caches", f"{place}-caches")
    return place


def main() -> int:
    """Provoke, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="new")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True)
    original, unmet = trained_run(folder), 0
    for group in options.groups:
        print(f"\n### {group}\n\n| fault | exit code | message | earlier files | |")
        print("| --- | --- | --- | --- | --- |")
        for number, fault in enumerate(GROUPS[group]):
            seen = meet(fault, copy_of(original, folder / f"{group.replace(' ', '-')}-{number}"))
            state = "untouched" if seen.untouched else "mended"
            verdict = "; ".join(seen.faults) or "as declared"
            unmet += bool(seen.faults)
            text = message(seen.text)
            print(f"| {fault.what} | {seen.code} | {text} | {state} | {verdict} |", flush=True)
    return 1 if unmet else 0


if __name__ == "__main__":
    sys.exit(main())

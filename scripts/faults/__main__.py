# SPDX-License-Identifier: Apache-2.0
"""What happens when ...: provoke faults through the command line and print what was observed.

    python scripts/faults --folder DIR
    python scripts/faults --folder DIR --groups mistakes damage

The disk that is full is a small tmpfs; where none may be mounted, which takes root, a limit on the
size of files stands for it, and the table says so.

Prints one markdown table a group: the fault, the exit code, the message, and whether files that
were there before are untouched. Exit code 1 where a fault was not met as this file says.
"""

import argparse
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

from disk import Disk, small_disk
from fault import SAMPLE, train
from meet import meet, message
from of_disk import FULL
from of_input import MISTAKES, TWO
from of_signals import STOPS
from of_state import DAMAGE

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


def provoke(group: str, original: Path, place: Path, disk: Disk | None) -> int:
    """Provoke a group and print its rows; how many were not met as declared."""
    unmet = 0
    for number, fault in enumerate(GROUPS[group]):
        seen = meet(fault, copy_of(original, place / str(number)), disk)
        state = "untouched" if seen.untouched else "mended"
        verdict = "; ".join(seen.faults) or "as declared"
        if fault.again is not None and not seen.faults:
            verdict += "; complete with room"
        unmet += bool(seen.faults)
        text = message(seen.text)
        print(f"| {fault.what} | {seen.code} | {text} | {state} | {verdict} |", flush=True)
        if disk is not None:  # room for the next
            for path in place.glob(f"{number}*"):
                shutil.rmtree(path)
    return unmet


def main() -> int:
    """Provoke, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="new")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument(
        "--no-tmpfs", action="store_true", help="limit the size of files where one could be filled"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so it unmounts
    folder = options.folder.resolve()
    folder.mkdir(parents=True)
    original, unmet = trained_run(folder), 0
    for group in options.groups:
        place = folder / group.replace(" ", "-")
        place.mkdir()
        on_disk = group == "full disk" and not options.no_tmpfs
        with small_disk(place) if on_disk else nullcontext() as disk:
            title = group
            if group == "full disk":
                title += (
                    ", by a limit on the size of files" if disk is None else ", a filled tmpfs"
                )
            print(f"\n### {title}\n\n| fault | exit code | message | earlier files | |")
            print("| --- | --- | --- | --- | --- |", flush=True)
            unmet += provoke(group, original, place, disk)
    rows = sum(len(GROUPS[group]) for group in options.groups)
    print(f"\n{rows - unmet} of {rows} as declared")
    return 1 if unmet else 0


if __name__ == "__main__":
    sys.exit(main())

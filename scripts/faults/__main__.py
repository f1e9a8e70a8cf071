# SPDX-License-Identifier: Apache-2.0
"""Provoke faults through the command line and print the observed reactions.

    python scripts/faults --folder DIR
    python scripts/faults --folder DIR --groups mistakes damage

A small tmpfs is filled for the full disk; if it cannot be mounted, which needs root, a limit on
the file size replaces it, and the table says so.

Prints one markdown table per group: fault, exit code, message, and whether existing files are
untouched. The exit code is 1 if a reaction differs from the expected one.
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
from of_disk import FULL
from of_input import MISTAKES, TWO
from of_signals import STOPS
from of_state import DAMAGE
from reaction import message, provoke_fault

GROUPS = {
    "mistakes": MISTAKES,
    "damage": DAMAGE,
    "full disk": FULL,
    "stops": STOPS,
    "two at once": TWO,
}


def trained_run(folder: Path) -> Path:
    """Small trained run with samples, copied for each fault."""
    run = folder / "original"
    for arguments in (train("--folder", "{run}"), SAMPLE):
        command = [text.replace("{run}", str(run)) for text in arguments]
        subprocess.run(
            [sys.executable, "-m", "pippin.cli.main", *command], check=True, capture_output=True
        )
    return run


def copy_of(run: Path, place: Path) -> Path:
    """Copy a run and its cache to another name."""
    shutil.copytree(run, place)
    shutil.copytree(f"{run}-caches", f"{place}-caches")
    return place


def provoke(group: str, original: Path, place: Path, disk: Disk | None) -> int:
    """Provoke a group and print its rows; number of unexpected reactions."""
    unmet = 0
    for number, fault in enumerate(GROUPS[group]):
        reaction = provoke_fault(fault, copy_of(original, place / str(number)), disk)
        state = "untouched" if reaction.untouched else "mended"
        verdict = "; ".join(reaction.faults) or "as declared"
        if fault.again is not None and not reaction.faults:
            verdict += "; complete with room"
        unmet += bool(reaction.faults)
        text = message(reaction.text)
        print(f"| {fault.what} | {reaction.code} | {text} | {state} | {verdict} |", flush=True)
        if disk is not None:  # free space for the next
            for path in place.glob(f"{number}*"):
                shutil.rmtree(path)
    return unmet


def main() -> int:
    """Provoke the faults and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="new")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument(
        "--no-tmpfs", action="store_true", help="limit the file size instead of filling a tmpfs"
    )
    options = parser.parse_args()
    signal.signal(
        signal.SIGTERM, lambda number, frame: sys.exit(128 + number)
    )  # so that it unmounts
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
                title += ", by a limit on the file size" if disk is None else ", a filled tmpfs"
            print(f"\n### {title}\n\n| fault | exit code | message | earlier files | |")
            print("| --- | --- | --- | --- | --- |", flush=True)
            unmet += provoke(group, original, place, disk)
    rows = sum(len(GROUPS[group]) for group in options.groups)
    print(f"\n{rows - unmet} of {rows} as declared")
    return 1 if unmet else 0


if __name__ == "__main__":
    sys.exit(main())

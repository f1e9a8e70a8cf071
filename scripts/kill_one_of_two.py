# SPDX-License-Identifier: Apache-2.0
"""Train in two processes, kill a random one with SIGKILL at random moments, go on, and compare.

    python scripts/kill_one_of_two.py --folder DIR --kills 10
    python scripts/kill_one_of_two.py --folder DIR --kills 4 --overlap
    python scripts/kill_one_of_two.py --folder DIR --kills 4 --parallel fsdp --images 1600

One way through the run is undisturbed. On the others torchrun is started, one of its processes is
killed, torchrun ends the other one, and the same command with --resume goes on; where a way comes
to its end, it is compared and a new one begins, until all kills have hit a process at work.
Weights, averages, optimizer state and the pictures of every batch of every process must be the
same bits. Prints a markdown table; the exit code is 1 where anything differs.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kill_and_resume import OPTIONS, sha

from pippin.system.ranks import leave

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
AVERAGES = ("--train.ema-extra", "share-0.2")


@dataclass
class Seen:
    """What happened to the processes that were killed."""

    ranks: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """From a kill until torchrun had ended the other process."""


def work(arguments: list[str]) -> int:
    """A process of the training: as ``pippin``, with the pictures of its batches on the disk."""
    from pippin.cli.main import main
    from pippin.data.loader import LatentLoader
    from pippin.types import Batch

    folder = Path(arguments[arguments.index("--folder") + 1])
    file = folder.with_name(f"{folder.name}-batches-{os.environ['RANK']}.jsonl").open("a")
    real = LatentLoader._batch

    def noted(self: LatentLoader, step: int, indices: Any, fetched: Any) -> Batch:
        file.write(json.dumps([step, indices.tolist()]) + "\n")
        file.flush()
        return real(self, step, indices, fetched)

    LatentLoader._batch = noted  # type: ignore[method-assign]
    return main(arguments)


def command(folder: Path, options: list[str]) -> list[str]:
    """Start, or go on where a run is recorded."""
    resume = str((folder / "config.json").exists())
    place = ["--folder", str(folder), "--resume", resume]
    caches = ["--cache.folder", str(folder.parent / "caches")]
    given = ["train", "openmoji/mmdit-disentangled", *OPTIONS, *AVERAGES, *options]
    return [*TORCHRUN, __file__, "--work", *given, *place, *caches]


def digests(folder: Path) -> dict[str, str]:
    """Of the last checkpoint's files, and every batch of each process.

    Raises:
        SystemExit: a step that was taken twice had other pictures the second time.
    """
    last = max((folder / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    found = {f"{last.name}/{path.stem}": sha(path) for path in last.glob("*.safetensors")}
    for rank in (0, 1):
        file = folder.with_name(f"{folder.name}-batches-{rank}.jsonl")
        for step, indices in whole_lines(file):
            name = f"batch {step} of process {rank}"
            if found.setdefault(name, str(indices)) != str(indices):
                raise SystemExit(f"{name} had other pictures when it was taken again")
    return found


def whole_lines(file: Path) -> Iterator[Any]:
    """All lines but one that a kill tore."""
    for line in file.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def children(process: subprocess.Popen[bytes]) -> list[int]:
    """torchrun's own processes, by rank."""
    given = ["pgrep", "-P", str(process.pid)]
    return sorted(map(int, subprocess.run(given, capture_output=True, text=True).stdout.split()))


def begun(folder: Path) -> int:
    """How many batches the first process has seen on this way."""
    file = folder.with_name(f"{folder.name}-batches-0.jsonl")
    return file.read_bytes().count(b"\n") if file.exists() else 0


def start(folder: Path, options: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start, and wait for its first batch."""
    before = begun(folder)
    with log.open("ab") as said:
        process = subprocess.Popen(command(folder, options), stdout=said, stderr=said)
    while begun(folder) == before and process.poll() is None:
        time.sleep(0.05)
    return process


def finish(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for its end.

    Raises:
        SystemExit: it was no good one.
    """
    if process.wait() != 0:
        raise SystemExit(f"exit code {process.returncode}:\n{log.read_text()[-3000:]}")


def kill_one(
    process: subprocess.Popen[bytes], longest: float, draws: random.Random, seen: Seen
) -> bool:
    """Kill a process after a random time, unless all come to their end before."""
    rank, wait = draws.randrange(2), draws.uniform(0, longest)
    try:
        process.wait(timeout=wait)
        return False
    except subprocess.TimeoutExpired:
        pass
    both = children(process)
    if len(both) < 2:
        return False
    os.kill(both[rank], signal.SIGKILL)
    began = time.monotonic()
    process.wait(timeout=120)
    seen.ranks.append(rank)
    seen.seconds.append(time.monotonic() - began)
    print(
        f"  process {rank} killed {wait:.1f} s after its first batch", file=sys.stderr, flush=True
    )
    return True


def killed_way(
    folder: Path,
    options: list[str],
    kills: int,
    longest: float,
    draws: random.Random,
    seen: Seen,
) -> dict[str, str]:
    """A way with as many kills as hit it, and what came out."""
    log = folder.with_suffix(".log")
    while len(seen.ranks) < kills:
        process = start(folder, options, log)
        if not kill_one(process, longest, draws, seen):
            finish(process, log)
            return digests(folder)
    finish(start(folder, options, log), log)
    return digests(folder)


def main() -> int:
    """All ways, and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="new")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of ranks and moments")
    parser.add_argument("--parallel", choices=("ddp", "fsdp"), default="ddp")
    parser.add_argument("--overlap", action="store_true", help="train.checkpoint_overlap")
    parser.add_argument("--images", type=int, default=9600)
    given = parser.parse_args()
    options = ["--train.parallel", given.parallel, "--train.images", str(given.images)]
    options += ["--train.checkpoint-overlap", str(given.overlap)]
    folder, draws, seen = given.folder.resolve(), random.Random(given.seed), Seen()
    folder.mkdir(parents=True)
    began = time.monotonic()
    whole = start(folder / "whole", options, folder / "whole.log")
    at_work = time.monotonic()
    finish(whole, folder / "whole.log")
    longest, wanted = time.monotonic() - at_work, digests(folder / "whole")
    print(f"undisturbed: {time.monotonic() - began:.0f} s, {longest:.0f} of them training")
    unlike: list[str] = []
    ways = 0
    while len(seen.ranks) < given.kills:
        ways += 1
        found = killed_way(folder / f"killed-{ways}", options, given.kills, longest, draws, seen)
        unlike += [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]
    batches = sum(name.startswith("batch") for name in wanted)
    print("| parallel | overlap | kills of process 0, 1 | ways | files | batches | |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    verdict = f"DIFFERENT: {unlike[:3]}" if unlike else "all equal"
    counts = f"{seen.ranks.count(0)}, {seen.ranks.count(1)}"
    print(
        f"| {given.parallel} | {given.overlap} | {counts} | {ways} | {len(wanted) - batches} | "
        f"{batches} | {verdict} |"
    )
    print(f"the other process had ended {max(seen.seconds):.1f} s after a kill, at the latest")
    return 1 if unlike else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        leave(work(sys.argv[2:]))
    sys.exit(main())

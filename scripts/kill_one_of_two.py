# SPDX-License-Identifier: Apache-2.0
"""Kill a random one of two training ranks with SIGKILL at random moments, resume, and compare.

    python scripts/kill_one_of_two.py --folder DIR --kills 10
    python scripts/kill_one_of_two.py --folder DIR --kills 4 --overlap
    python scripts/kill_one_of_two.py --folder DIR --kills 4 --parallel fsdp --images 1600
    python scripts/kill_one_of_two.py --folder DIR --kills 4 --parallel fsdp --sharded

One trial is undisturbed. In the others torchrun is started, one of its ranks is killed, torchrun
ends the other one, and the same command with --resume resumes; a trial ends when its run finishes,
and the next one starts, until all kills have hit a rank at work. Weights, averages, optimizer
state and the images of every batch of every rank must be identical bits. Prints a markdown table;
the exit code is 1 if anything differs.
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

from kills.digests import sha
from kills.verbs import OPTIONS

from pippin.distributed.ranks import exit_rank

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
AVERAGES = ("--train.ema-extra", "share-0.2")


@dataclass
class Kills:
    """Ranks that were killed."""

    ranks: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """Seconds from a kill until torchrun had ended the other rank."""


def work(arguments: list[str]) -> int:
    """One training rank: ``pippin`` with the images of its batches logged to disk."""
    from pippin.cli.main import main
    from pippin.data.loader import LatentLoader
    from pippin.types import Batch

    folder = Path(arguments[arguments.index("--folder") + 1])
    file = folder.with_name(f"{folder.name}-batches-{os.environ['RANK']}.jsonl").open("a")
    original = LatentLoader._batch

    def logged(self: LatentLoader, step: int, indices: Any, fetched: Any) -> Batch:
        file.write(json.dumps([step, indices.tolist()]) + "\n")
        file.flush()
        return original(self, step, indices, fetched)

    LatentLoader._batch = logged  # type: ignore[method-assign]
    return main(arguments)


def command(folder: Path, options: list[str]) -> list[str]:
    """Command that starts a run, or resumes a recorded one."""
    resume = str((folder / "config.json").exists())
    place = ["--folder", str(folder), "--resume", resume]
    caches = ["--cache.folder", str(folder.parent / "caches")]
    command = ["train", "openmoji/mmdit-disentangled", *OPTIONS, *AVERAGES, *options]
    return [*TORCHRUN, __file__, "--work", *command, *place, *caches]


def digests(folder: Path) -> dict[str, str]:
    """Digests of the last checkpoint's files and every batch of each rank.

    Raises:
        SystemExit: a repeated step had other images the second time.
    """
    last = max((folder / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    found = {f"{last.name}/{path.stem}": sha(path) for path in last.glob("*.safetensors")}
    for rank in (0, 1):
        file = folder.with_name(f"{folder.name}-batches-{rank}.jsonl")
        for step, indices in complete_lines(file):
            name = f"batch {step} of rank {rank}"
            if found.setdefault(name, str(indices)) != str(indices):
                raise SystemExit(f"{name} had other images when it was repeated")
    return found


def complete_lines(file: Path) -> Iterator[Any]:
    """All lines except one truncated by a kill."""
    for line in file.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def children(process: subprocess.Popen[bytes]) -> list[int]:
    """Process ids of torchrun's ranks, in order."""
    command = ["pgrep", "-P", str(process.pid)]
    return sorted(map(int, subprocess.run(command, capture_output=True, text=True).stdout.split()))


def batches_seen(folder: Path) -> int:
    """Number of batches that rank 0 has seen in this trial."""
    file = folder.with_name(f"{folder.name}-batches-0.jsonl")
    return file.read_bytes().count(b"\n") if file.exists() else 0


def start(folder: Path, options: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start torchrun and wait for the first batch."""
    before = batches_seen(folder)
    with log.open("ab") as output:
        process = subprocess.Popen(command(folder, options), stdout=output, stderr=output)
    while batches_seen(folder) == before and process.poll() is None:
        time.sleep(0.05)
    return process


def finish(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for the end of torchrun.

    Raises:
        SystemExit: it failed.
    """
    if process.wait() != 0:
        raise SystemExit(f"exit code {process.returncode}:\n{log.read_text()[-3000:]}")


def kill_one(
    process: subprocess.Popen[bytes], longest: float, draws: random.Random, kills: Kills
) -> bool:
    """Kill a rank after a random time, unless the run finishes before."""
    rank, wait = draws.randrange(2), draws.uniform(0, longest)
    try:
        process.wait(timeout=wait)
        return False
    except subprocess.TimeoutExpired:
        pass
    ranks = children(process)
    if len(ranks) < 2:
        return False
    os.kill(ranks[rank], signal.SIGKILL)
    killed_at = time.monotonic()
    process.wait(timeout=120)
    kills.ranks.append(rank)
    kills.seconds.append(time.monotonic() - killed_at)
    print(f"  rank {rank} killed {wait:.1f} s after its first batch", file=sys.stderr, flush=True)
    return True


def trial(
    folder: Path,
    options: list[str],
    count: int,
    longest: float,
    draws: random.Random,
    kills: Kills,
) -> dict[str, str]:
    """One trial with as many kills as hit it; digests of its result."""
    log = folder.with_suffix(".log")
    while len(kills.ranks) < count:
        process = start(folder, options, log)
        if not kill_one(process, longest, draws, kills):
            finish(process, log)
            return digests(folder)
    finish(start(folder, options, log), log)
    return digests(folder)


def main() -> int:
    """Run all trials and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="new")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="seed of ranks and moments")
    parser.add_argument("--parallel", choices=("ddp", "fsdp"), default="ddp")
    parser.add_argument("--overlap", action="store_true", help="train.checkpoint_overlap")
    parser.add_argument("--sharded", action="store_true", help="train.checkpoint_format sharded")
    parser.add_argument("--images", type=int, default=9600)
    args = parser.parse_args()
    options = ["--train.parallel", args.parallel, "--train.images", str(args.images)]
    options += ["--train.checkpoint-overlap", str(args.overlap)]
    layout = "sharded" if args.sharded else "safetensors"
    options += ["--train.checkpoint-format", layout]
    folder, draws, kills = args.folder.resolve(), random.Random(args.seed), Kills()
    folder.mkdir(parents=True)
    started = time.monotonic()
    undisturbed = start(folder / "whole", options, folder / "whole.log")
    first_batch = time.monotonic()
    finish(undisturbed, folder / "whole.log")
    longest, expected = time.monotonic() - first_batch, digests(folder / "whole")
    print(f"undisturbed: {time.monotonic() - started:.0f} s, {longest:.0f} of them training")
    differing: list[str] = []
    trials = 0
    while len(kills.ranks) < args.kills:
        trials += 1
        result = trial(folder / f"killed-{trials}", options, args.kills, longest, draws, kills)
        differing += [
            key for key in {**expected, **result} if expected.get(key) != result.get(key)
        ]
    batches = sum(name.startswith("batch") for name in expected)
    print("| parallel | checkpoints | overlap | kills of rank 0, 1 | trials | files | batches | |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    verdict = f"DIFFERENT: {differing[:3]}" if differing else "all equal"
    counts = f"{kills.ranks.count(0)}, {kills.ranks.count(1)}"
    print(
        f"| {args.parallel} | {layout} | {args.overlap} | {counts} | {trials} | "
        f"{len(expected) - batches} | {batches} | {verdict} |"
    )
    print(f"the other rank ended {max(kills.seconds):.1f} s or less after a kill")
    return 1 if differing else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        exit_rank(work(sys.argv[2:]))
    sys.exit(main())

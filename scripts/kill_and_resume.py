# SPDX-License-Identifier: Apache-2.0
"""Kill a training run at random moments, resume it, and compare its final weights.

    python scripts/kill_and_resume.py --kills 5 --folder DIR

Trains a small run without a stop; then the same run again, killed with SIGKILL at random moments
and resumed each time. Prints the sha256 of the final weights of both.
"""

import argparse
import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

RECIPE = [
    *("openmoji/mmdit-disentangled", "--denoiser.depth", "2", "--denoiser.width", "64"),
    *("--denoiser.patch-size", "4", "--data.views", "1", "--train.batch-size", "64"),
    *("--train.images", "12800", "--train.checkpoint-every", "640"),
    *("--train.validate-every", "0", "--train.preview-every", "0", "--train.device", "cpu"),
]
FILES = ("model", "ema", "optimizer")


def start(folder: Path, *, resume: bool) -> subprocess.Popen[bytes]:
    """One training process; latents are cached beside the runs."""
    command = [sys.executable, "-m", "pippin.cli.main", "train", *RECIPE]
    command += ["--folder", str(folder), "--resume", str(resume)]
    command += ["--cache.folder", str(folder.parent / "caches")]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def digests(folder: Path) -> dict[str, str]:
    """sha256 of each part of the last checkpoint."""
    last = max((folder / "checkpoints").iterdir(), key=lambda path: int(path.name))
    return {
        part: hashlib.sha256((last / f"{part}.safetensors").read_bytes()).hexdigest()
        for part in FILES
    }


def killed_run(folder: Path, kills: int, longest: float, draws: random.Random) -> None:
    """Start, kill after a random time, resume; after the last kill let it finish."""
    for number in range(kills):
        process = start(folder, resume=(folder / "config.json").exists())
        wait = draws.uniform(0.2, longest)
        try:
            process.wait(timeout=wait)
            print(f"kill {number + 1}: the run had finished already")
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            found = sorted(int(p.name) for p in (folder / "checkpoints").glob("[0-9]*"))
            print(f"kill {number + 1} after {wait:.1f} s; checkpoints {found}", flush=True)
    if start(folder, resume=(folder / "config.json").exists()).wait() != 0:
        raise SystemExit("the resumed run failed")


def main() -> int:
    """Both runs, and the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    whole, parts = options.folder / "whole", options.folder / "killed"
    if start(whole, resume=False).wait() != 0:
        raise SystemExit("the first run (which also makes the cache) failed")
    began = time.monotonic()
    again = options.folder / "again"
    if start(again, resume=False).wait() != 0:
        raise SystemExit("the second uninterrupted run failed")
    seconds = time.monotonic() - began
    print(f"uninterrupted run: {seconds:.0f} s")
    killed_run(parts, options.kills, seconds, random.Random(options.seed))
    same = digests(whole) == digests(parts) == digests(again)
    for part in FILES:
        print(f"{part}: whole {digests(whole)[part]}  killed {digests(parts)[part]}")
    print("equal" if same else "DIFFERENT")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Kill pippin with SIGKILL at random moments, go on each time, and compare what comes out.

    python scripts/kill_and_resume.py --folder DIR --kills 20
    python scripts/kill_and_resume.py --folder DIR --kills 5 --phases train

Each phase runs once without a stop and once killed: ``train`` prepares latents, trains,
checkpoints and previews; ``sample`` draws images; ``evaluate`` measures; ``study`` runs a study of
two arms. Prints a markdown table; the exit code is 1 where anything differs.
"""

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

OPTIONS = [
    *("--data.resolution", "32", "--data.views", "2", "--data.max-pictures", "400"),
    *("--cache.shard-size", "64", "--denoiser.depth", "2", "--denoiser.width", "32"),
    *("--denoiser.num-heads", "2", "--denoiser.patch-size", "4", "--train.device", "cpu"),
    *("--train.batch-size", "32", "--train.images", "9600", "--train.checkpoint-every", "320"),
    *("--train.preview-every", "3200", "--train.validate-every", "3200", "--sampling.steps", "4"),
    *("--evaluation.num-samples", "96", "--evaluation.input-size", "32"),
    *("--evaluation.drift-pairs", "4", "--evaluation.kid-subset-size", "48"),
]
WEIGHTS = ("model", "ema", "optimizer")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One kind of work in a folder."""

    share: int
    """Of the kills."""
    command: Callable[[Path], list[str]]
    """The command that starts or goes on in a folder."""
    digests: Callable[[Path], dict[str, str]]
    """What must be equal in the end."""
    needs_run: bool = False
    """Starts from a copy of a trained run."""


def pippin(*arguments: str) -> list[str]:
    """A command line of this interpreter."""
    return [sys.executable, "-m", "pippin.cli.main", *arguments]


def train_command(folder: Path) -> list[str]:
    """Train, or resume where a run is recorded."""
    resume = (folder / "config.json").exists()
    place = ["--folder", str(folder), "--resume", str(resume)]
    caches = ["--cache.folder", str(folder.with_name(f"{folder.name}-caches"))]
    return pippin("train", "openmoji/mmdit-disentangled", *OPTIONS, *place, *caches)


def sha(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def of_weights(folder: Path) -> dict[str, str]:
    """The last checkpoint of a run, and its latent cache where it lies beside."""
    last = max((folder / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    found = {f"{last.name}/{part}": sha(last / f"{part}.safetensors") for part in WEIGHTS}
    shards = sorted(folder.with_name(f"{folder.name}-caches").glob("*/shard-*"))
    return found | {path.name: sha(path) for path in shards}


def of_samples(folder: Path) -> dict[str, str]:
    """Every picture, and the manifest."""
    return {path.name: sha(path) for path in sorted((folder / "samples").glob("[!.]*"))}


def of_results(folder: Path) -> dict[str, str]:
    """Every number with its fingerprint."""
    lines = map(json.loads, (folder / "results.jsonl").read_text().splitlines())
    return {
        f"{x.get('arm')} {x.get('seed')} {x['subject']} {x.get('metric', x.get('name'))}": (
            f"{x['value']} {x['low']} {x['high']} {x['fingerprint']}"
        )
        for x in lines
        if x.get("kind") not in ("outcome", "settings")
    }


def of_study(folder: Path) -> dict[str, str]:
    """Numbers and weights of every run."""
    found = of_results(folder)
    for run in sorted((folder / "runs").iterdir()):
        found |= {f"{run.name} {name}": value for name, value in of_weights(run).items()}
    return found


def study_command(folder: Path) -> list[str]:
    """This script, as the process that is killed."""
    return [sys.executable, __file__, "--folder", str(folder), "--work"]


PHASES = {
    "train": Phase(share=9, command=train_command, digests=of_weights),
    "sample": Phase(
        share=3,
        command=lambda folder: pippin("sample", str(folder), "--seeds", "0:256", "--steps", "30"),
        digests=of_samples,
        needs_run=True,
    ),
    "evaluate": Phase(
        share=3,
        command=lambda folder: pippin("evaluate", str(folder)),
        digests=of_results,
        needs_run=True,
    ),
    "study": Phase(share=5, command=study_command, digests=of_study),
}


def run_small_study(folder: Path) -> int:
    """The shipped study on a small base; what the study phase kills."""
    from pippin.recipes.openmoji import mmdit_demo
    from pippin.run.execute import execute
    from pippin.studies.demo import demo_study
    from pippin.study.runner import run_study

    base = mmdit_demo()
    base = replace(
        base,
        data=replace(base.data, resolution=32, views=1, max_pictures=200),
        cache=replace(base.cache, folder=str(folder / "caches"), shard_size=64),
        denoiser=replace(base.denoiser, depth=2, width=32, num_heads=2),
        train=replace(base.train, images=3200, batch_size=32, checkpoint_every=320, device="cpu"),
        sampling=replace(base.sampling, steps=4),
        evaluation=replace(
            base.evaluation, num_samples=64, input_size=32, drift_pairs=4, kid_subset_size=32
        ),
    )
    summary = run_study(demo_study(base), folder, execute, print)
    return 0 if set(summary.statuses.values()) <= {"finished", "skipped"} else 1


def finish(phase: Phase, folder: Path) -> float:
    """Run to the end; the seconds that took."""
    began = time.monotonic()
    done = subprocess.run(phase.command(folder), capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{folder}: exit code {done.returncode}\n{done.stderr}")
    return time.monotonic() - began


def killed(phase: Phase, folder: Path, longest: float, draws: random.Random) -> float | None:
    """Start or go on, and kill after a random time; the seconds it took where it ended before."""
    began = time.monotonic()
    process = subprocess.Popen(
        phase.command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait = draws.uniform(0.1, longest)
    try:
        process.wait(timeout=wait)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        print(f"  killed after {wait:.1f} s", file=sys.stderr, flush=True)
        return None
    if process.returncode != 0:
        raise SystemExit(f"{folder}: exit code {process.returncode}")
    return time.monotonic() - began


def compare(name: str, folder: Path, run: Path | None, kills: int, draws: random.Random) -> bool:
    """Unbroken and killed ways through a phase, as a row of the table.

    Where a killed way comes to its end it is compared, and a new one begins, until all kills have
    hit a process at work. The moments are drawn from the shortest unbroken time seen: the first
    one may have been slow, and longer draws would hit nothing.
    """
    phase = PHASES[name]
    whole = _start(folder / name / "whole", run)
    seconds = finish(phase, whole)
    wanted, unlike, ways, done, longest = phase.digests(whole), [], 0, 0, seconds
    while done < kills:
        ways += 1
        parts = _start(folder / name / f"killed-{ways}", run)
        ended, fresh = None, True
        while done < kills and (ended := killed(phase, parts, longest, draws)) is None:
            done, fresh = done + 1, False
        if ended is None:
            finish(phase, parts)
        elif fresh:
            longest = min(longest, ended)
        found = phase.digests(parts)
        unlike += [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]
    verdict = f"DIFFERENT: {unlike[:3]}" if unlike else f"all {len(wanted)} equal"
    example = next(iter(wanted.items()))
    print(
        f"| {name} | {seconds:.0f} s | {done} | {ways} | {verdict} | {example[0]} "
        f"{example[1][:16]} |",
        flush=True,
    )
    return not unlike


def _start(folder: Path, run: Path | None) -> Path:
    """A new folder, or a copy of a trained run."""
    if run is not None:
        shutil.copytree(run, folder)
    return folder


def main() -> int:
    """All phases, and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="new")
    parser.add_argument("--kills", type=int, default=20, help="over all phases")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return run_small_study(options.folder)
    folder, draws = options.folder.resolve(), random.Random(options.seed)
    folder.mkdir(parents=True)
    print("| phase | unbroken | kills | ways | files and numbers | e.g. sha256 |")
    print("| --- | --- | --- | --- | --- | --- |")
    shares = sum(PHASES[name].share for name in options.phases)
    run = folder / "run"
    if any(PHASES[name].needs_run for name in options.phases):
        finish(PHASES["train"], run)
    equal = [
        compare(
            name,
            folder,
            run if PHASES[name].needs_run else None,
            round(options.kills * PHASES[name].share / shares),
            draws,
        )
        for name in options.phases
    ]
    return 0 if all(equal) else 1


if __name__ == "__main__":
    sys.exit(main())

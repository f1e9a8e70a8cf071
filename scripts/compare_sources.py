# SPDX-License-Identifier: Apache-2.0
"""Processor seconds of a training step of two source trees, in turns, and their ratios by part.

    git worktree add ../before COMMIT
    python scripts/compare_sources.py ../before/src src
    python scripts/compare_sources.py ../before/src src --recipe openmoji/dit-entangled

Each tree trains the same recipe on made-up latents in a process of its own, and the two take
turns, so that other programs of the machine weigh on both. By default the recipe is that of the
studies at scale cpu. --muon-gram, --compile and --set apply to the second tree only, which may be
the same as the first:

    python scripts/compare_sources.py src src --muon-gram --set train.muon_precision bf16
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

WARM_UP_STEPS = 5
TREES = ("before", "after")


def main() -> int:
    """Parse, start both processes, take turns, print ratios."""
    options = _parser().parse_args()
    if options.serve:
        serve(options)
        return 0
    shared = ["--batch-size", str(options.batch_size), "--threads", str(options.threads)]
    shared += ["--recipe", options.recipe] if options.recipe else []
    chosen = [f"--{name}" for name in ("muon-gram", "compile") if getattr(options, _dest(name))]
    chosen += [word for setting in options.set for word in ("--set", *setting)]
    processes = [
        _start(options.before, shared, options.threads),
        _start(options.after, [*shared, *chosen], options.threads),
    ]
    rounds: list[list[dict[str, float]]] = []
    for number in range(options.rounds):
        order = processes if number % 2 == 0 else processes[::-1]
        found = {id(process): _measure(process, options.steps) for process in order}
        rounds.append([found[id(process)] for process in processes])
    for process in processes:
        process.communicate()
    for part in rounds[0][0]:
        before, after = ([one[tree][part] for one in rounds] for tree in range(2))
        ratios = sorted(b / a for b, a in zip(before, after, strict=True) if a > 0)
        if ratios:
            middle, low, high = statistics.median(ratios), ratios[0], ratios[-1]
            print(
                f"{part:12} {statistics.median(before):10.2f} {statistics.median(after):10.2f}"
                f"   ratio {middle:.2f} ({low:.2f} to {high:.2f})"
            )
    return 0


def _dest(name: str) -> str:
    return name.replace("-", "_")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="folder that holds the package pippin")
    parser.add_argument("after", type=Path)
    parser.add_argument("--recipe", help="default: that of the studies at scale cpu")
    parser.add_argument("--batch-size", type=int, default=0, help="0: the recipe's")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4, help="steps of a turn")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--muon-gram", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument(
        "--set",
        nargs=2,
        action="append",
        default=[],
        metavar=("SETTING", "VALUE"),
        help="a setting of the recipe, such as train.precision bf16",
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return parser


def _start(tree: Path, words: list[str], threads: int) -> subprocess.Popen[str]:
    """Process that trains with the package of a tree, ready to take turns."""
    program = [sys.executable, __file__, str(tree), str(tree), *words, "--serve"]
    environment = os.environ | {
        "PYTHONPATH": str(tree.resolve()),
        "OMP_NUM_THREADS": str(threads),
    }
    process = subprocess.Popen(
        program, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise SystemExit(f"the package in {tree} cannot train; see the error above")
    return process


def _measure(process: subprocess.Popen[str], steps: int) -> dict[str, float]:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{steps}\n")
    process.stdin.flush()
    measured: dict[str, float] = json.loads(process.stdout.readline())
    return measured


def serve(options: argparse.Namespace) -> None:
    """Train so many steps as each line of the standard input says, and print milliseconds."""
    trainer, batches = _trainer(options)
    parts: dict[str, float] = defaultdict(float)

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        parts[name] += time.process_time() - start

    trainer.timed = timed
    with _heap(trainer.device):
        for _ in range(WARM_UP_STEPS):
            trainer.step(next(batches))
        print("ready", flush=True)
        for line in sys.stdin:
            steps = int(line)
            parts.clear()
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            start = time.process_time()
            for _ in range(steps):
                trainer.step(next(batches))
            parts["step"] = time.process_time() - start
            now = resource.getrusage(resource.RUSAGE_SELF)
            result = {name: 1000 * seconds / steps for name, seconds in parts.items()}
            result["page faults"] = (now.ru_minflt - faults) / steps
            result["peak MiB"] = now.ru_maxrss / 1024
            print(json.dumps(result), flush=True)


def _trainer(options: argparse.Namespace) -> tuple[Any, Iterator[Any]]:
    import torch
    from rich.console import Console

    from pippin.bench.measure import SyntheticMoments
    from pippin.config import replace_at
    from pippin.data.loader import LatentLoader
    from pippin.recipes.table import get_recipe
    from pippin.runs.components import Components
    from pippin.studies.shipped.scales import class_base
    from pippin.training.train import build_trainer

    torch.set_num_threads(options.threads)
    recipe = get_recipe(options.recipe) if options.recipe else class_base("cpu")
    train = replace(recipe.train, compile=options.compile)
    if options.muon_gram:
        train = replace(train, muon_gram=True)
    if options.batch_size:
        train = replace(train, batch_size=options.batch_size)
    recipe = replace(recipe, train=train)
    for path, text in options.set:
        recipe = replace_at(recipe, path, _value(text))
    components = Components(recipe, Console(quiet=True))
    classes = len(components.train_source.class_names)
    components.moments = SyntheticMoments(components.latent_shape, classes, 1024)
    trainer = build_trainer(components, Path(tempfile.mkdtemp()))
    loader = LatentLoader(
        components.moments, components.autoencoder, batch_size=train.batch_size, seed=0, workers=0
    )
    return trainer, iter(loader)


def _value(text: str) -> Any:
    """Value of a setting: JSON, or the text itself."""
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        return text


@contextmanager
def _heap(device: Any) -> Iterator[None]:
    """As training does, where the tree has it."""
    try:
        from pippin.system.heap import retained_heap
    except ImportError:
        yield
    else:
        with retained_heap(device):
            yield


if __name__ == "__main__":
    sys.exit(main())

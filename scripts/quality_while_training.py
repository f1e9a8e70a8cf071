# SPDX-License-Identifier: Apache-2.0
"""Sample quality while training, an earlier checkpoint, and averages chosen after training.

    python scripts/quality_while_training.py --folder DIR
    python scripts/quality_while_training.py --folder DIR --images 200000 --samples 500

Trains a small class model on embedded images with `pippin train`, which measures KID and FD at
regular intervals. Then `pippin sample` draws from the second-last checkpoint, and averages of
several widths are reconstructed from the snapshots. The training has tracked the same averages
step by step: a markdown table has the error of the reconstructed weights against the tracked ones,
relative to the norm of the tracked ones, and the same distance of the newest weights without
averaging. `DIR/run/report.html` has the curves. DIR must be new.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from torch import Tensor

from pippin.runs.checkpoint import load_weights
from pippin.runs.checkpoint_folders import list_checkpoints
from pippin.runs.folder import RunFolder
from pippin.training.averaging.config import PowerProfile
from pippin.training.averaging.reconstruction import reconstruct_weights

RECIPE = "openmoji/mmdit-disentangled"
WIDTHS = (0.07, 0.12, 0.2)
"""Relative widths that are tracked and reconstructed; snapshots store 0.05 and 0.1."""
POINTS = 10
"""Number of measures of quality, of snapshots and of checkpoints."""


def pippin(*words: object) -> None:
    """Run a verb; its progress goes to standard error."""
    command = [sys.executable, "-m", "pippin", *map(str, words)]
    subprocess.run(command, check=True, stdout=sys.stderr)


def train(folder: Path, options: argparse.Namespace) -> None:
    """Train with measures, snapshots, checkpoints and tracked averages."""
    every = options.images // POINTS
    settings = {
        "data.views": 1,
        "data.max_pictures": 1000,
        "cache.folder": folder.parent / "caches",
        "denoiser.patch-size": 4,
        "denoiser.depth": options.depth,
        "train.images": options.images,
        "train.device": options.device,
        "train.tracker": "none",
        "train.preview-every": 0,
        "train.validate-every": every,
        "train.quality-every": every,
        "train.quality-samples": options.samples,
        "train.snapshot-every": every,
        "train.checkpoint-every": every,
        "train.keep-checkpoints": 2,
        "sampling.solver": "dpm++",
        "sampling.steps": 8,
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    tracked = [f"power-{width}" for width in WIDTHS]
    pippin("train", RECIPE, "--folder", folder, *words, "--train.ema-extra", *tracked)


def distance(weights: dict[str, Tensor], tracked: dict[str, Tensor]) -> float:
    """Norm of the difference of all weights, relative to the norm of the tracked ones."""
    squares = sum(
        float((weights[k].double() - t.double()).square().sum()) for k, t in tracked.items()
    )
    norm = sum(float(t.double().square().sum()) for t in tracked.values())
    return float((squares / norm) ** 0.5)


def show_averages(run: RunFolder, checkpoint: Path) -> None:
    """Print a row for each width."""
    raw = load_weights(checkpoint, "raw")
    print(
        "| width | stored averages | error of the profile | error of the weights | raw weights |"
    )
    print("| --- | --- | --- | --- | --- |")
    for width in WIDTHS:
        profile = PowerProfile(sigma_rel=width)
        tracked = load_weights(checkpoint, profile.name)
        made = reconstruct_weights(run, checkpoint, profile, [])
        error, unaveraged = distance(made.tensors, tracked), distance(raw, tracked)
        print(
            f"| {width} | {made.sources} | {made.relative_error:.2g} | {error:.2g} "
            f"| {unaveraged:.2g} |"
        )


def show_quality(log: Path) -> None:
    """Print the measures of the log."""
    print("| images | KID | FD | held-out loss |")
    print("| --- | --- | --- | --- |")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    losses = {line["images"]: line["held_out_loss"] for line in lines if "held_out_loss" in line}
    for line in lines:
        if "kid" in line:
            kid, fd = (
                f"{line[key]:.3g} ({line[f'{key}_low']:.3g} to {line[f'{key}_high']:.3g})"
                for key in ("kid", "fd")
            )
            print(f"| {line['images']} | {kid} | {fd} | {losses.get(line['images'], 0):.4f} |")


def main() -> int:
    """Train, sample, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="new folder of all files")
    parser.add_argument("--images", type=int, default=20_000, help="length of the training")
    parser.add_argument("--samples", type=int, default=100, help="--train.quality-samples")
    parser.add_argument("--depth", type=int, default=3, help="blocks of the denoiser")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    run = RunFolder(options.folder / "run")
    train(run.path, options)
    newest, earlier = list_checkpoints(run.checkpoints)[:2]
    pippin("sample", run.path, "--checkpoint", earlier.name, "--seeds", "0:16")
    pippin("report", run.path)
    show_quality(run.log)
    print(f"\nsampled from checkpoint {earlier.name}; averages at {newest.name}:\n")
    show_averages(run, newest)
    return 0


if __name__ == "__main__":
    sys.exit(main())

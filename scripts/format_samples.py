# SPDX-License-Identifier: Apache-2.0
"""Write a tiny sample of every kind of file that pippin writes, for the tests of old formats.

    python scripts/format_samples.py --folder tests/formats/N

Run it with the version whose formats are to be preserved; N is any new name. Tests read all
samples under ``tests/formats/``: a later version must read the files of an earlier one, or refuse
them by name. Nothing is measured: images are noise of 16 pixels, models have one block.
"""

import argparse
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from pippin.bench.record import BenchRecord, ModeResult, Spread
from pippin.bench.scaling.scaling_record import (
    CurveResult,
    PointResult,
    ScalingRecord,
    SeriesResult,
)
from pippin.cli.main import main as pippin
from pippin.data.cache.caption_cache import build_bank
from pippin.evaluation.measure import Measure
from pippin.evaluation.metrics.frechet import GaussianStatistics
from pippin.evaluation.reference import ReferenceStatistics, save_statistics
from pippin.recipes.openmoji import mmdit_demo
from pippin.recipes.recipe import Recipe
from pippin.studies.runner import run_study
from pippin.studies.shipped.demo import demo_study
from pippin.types import TextFeatures

SIDE = 16
NETWORK = "--train.block-channels 2 2 --train.norm-groups 1 --train.latent-channels 2"
DATA = f"--data.path pictures --data.resolution {SIDE} --data.held-out-share 0.3 --data.views 1"
SMALL = (
    "--autoencoder.source autoencoder --denoiser.depth 1 --denoiser.width 4 "
    "--denoiser.num-heads 1 --denoiser.patch-size 4 --train.device cpu --train.batch-size 4 "
    "--train.precision fp32 --train.images 8 --train.checkpoint-every 4 --train.log-every 4 "
    "--train.validate-every 0 --train.preview-every 0 --sampling.steps 2 "
    "--train.keep-checkpoints 1 --evaluation.parts held-out --evaluation.loss-log-snrs 0"
)

SHARDED = ("--train.checkpoint-format", "sharded")


def write_images() -> None:
    """Write two classes of four images."""
    draws = torch.Generator().manual_seed(0)
    for number in range(8):
        pixels = torch.randint(256, (SIDE, SIDE, 3), generator=draws, dtype=torch.uint8)
        place = Path("pictures") / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.numpy()).save(place)


def call(line: str, *more: str) -> None:
    """Run one pippin command."""
    words = [*line.split(), *more]
    code = pippin(words)
    if code != 0:
        raise SystemExit(f"pippin {' '.join(words)}: exit code {code}")


def write_runs() -> None:
    """Write an autoencoder with its training state, a run with latents, samples and measures, and
    an export."""
    call(
        f"autoencoder train --out autoencoder {NETWORK} {DATA} --train.images 8 "
        "--train.warmup-images 4 --train.device cpu --train.log-every 4 --train.checkpoint-every 8"
    )
    call(f"train folder/dit-entangled --folder run {DATA} {SMALL}")
    call(f"train folder/dit-entangled --folder sharded {DATA} {SMALL}", *SHARDED)
    call("sample run --labels 0 --seeds 0:2")
    call("evaluate run")
    call("export run export")


def write_import() -> None:
    """Write the result of importing a folder of archives."""
    import tarfile

    Path("shards").mkdir()
    with tarfile.open("shards/00000.tar", "w") as tar:
        for number, path in enumerate(sorted(Path("pictures").rglob("*.png"))[:2]):
            tar.add(path, f"{number:05d}.png")
    call("data import shards --folder imported")
    shutil.rmtree("shards")


def write_study() -> None:
    """Write a study whose arms train nothing."""
    base = mmdit_demo()
    base = replace(base, train=replace(base.train, images=8, device="cpu"))

    def execute(recipe: Recipe, folder: Path) -> list[Measure]:
        figures = {"low": 0.0, "high": 1.0, "interval_over": "samples", "n": 4}
        words = {"unit": "distance", "better": "lower"}
        return [Measure(name="drift", value=0.5 + recipe.seed, **figures, **words)]

    study = replace(demo_study(base), seeds=(0, 1), primary="drift", companions=())
    run_study(study, Path("study"), execute, lambda text: None)
    shutil.rmtree("study/runs")


class Constant:
    """Caption encoder with constant output."""

    def encode(self, captions: Sequence[str], num_tokens: int) -> TextFeatures:
        """Features of ones."""
        shape = (len(captions), num_tokens)
        return TextFeatures(
            tokens=torch.ones(*shape, 2), mask=torch.ones(shape, dtype=torch.bool), pooled=None
        )


def write_others() -> None:
    """Write caption features, reference statistics, and a throughput record."""
    build_bank(
        ["a cat", "a dog"],
        Constant,
        folder=Path("caches"),
        fingerprint="0123456789abcdef",
        num_tokens=2,
        dtype=torch.float16,
    )
    features = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    statistics = ReferenceStatistics(
        pooled=GaussianStatistics.from_features(features),
        spatial=None,
        extractor="efflite0",
        fingerprint="0123456789abcdef",
        input_size=SIDE,
        count=8,
        image_hash="fedcba9876543210",
    )
    save_statistics(statistics, Path("reference.npz"), "as they are")
    spread = Spread.over([1.0, 2.0, 3.0])
    mode = ModeResult(
        precision="fp32",
        compiled=False,
        images_per_second=spread,
        step_seconds=spread,
        parts={"draw": spread},
        matmul_peak=spread,
        peak_share=spread,
        peak_memory=1,
    )
    record = BenchRecord(
        recipe="folder/dit-entangled",
        versions={"pippin": "0"},
        machine={"device": "cpu"},
        settings={"train.batch_size": 4},
        step_flops=1,
        loader=spread,
        modes=(mode,),
    )
    record.save(Path("bench.json"))
    write_scaling(spread)


def write_scaling(spread: Spread) -> None:
    """Write a record of scaling curves."""
    point = PointResult(x=64, value=spread, ideal=2.0, ratio=spread)
    curve = CurveResult(
        key="tokens",
        title="Training against image tokens",
        axis="image tokens",
        unit="images/s",
        better="higher",
        law="images/s fall as the counted FLOPs of an image rise",
        note="",
        series=(SeriesResult(name="pippin", points=(point,)),),
        left_out=("1024: too long",),
    )
    record = ScalingRecord(
        versions={"pippin": "0"},
        machine={"device": "cpu"},
        load_average=(1.0, 2.0),
        settings={"seconds": 2.0},
        seconds=3.0,
        curves=(curve,),
    )
    record.save(Path("scaling.json"))


def main() -> None:
    """Write all samples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="new")
    folder = parser.parse_args().folder.resolve()
    folder.mkdir(parents=True)
    os.chdir(folder)
    write_images()
    write_runs()
    write_import()
    write_study()
    write_others()
    shutil.rmtree("run/tensorboard")
    for name in ("log.jsonl", ".lock", "lock", "index-*.json", "grid.png"):
        for path in Path().rglob(name):
            path.unlink()


if __name__ == "__main__":
    main()

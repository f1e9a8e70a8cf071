# SPDX-License-Identifier: Apache-2.0
"""Compare two kinds of conditioning on a custom data set, over five training seeds.

    python examples/own_study.py photos studies/photos           # ten runs: half a day
    python examples/own_study.py photos studies/photos --jobs 2  # two in parallel

The same command resumes after a stop, and the report can be read at any time. The declaration is
fixed from the first run on: another question, budget or metric needs another folder.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from pippin import Recipe, Study, execute, get_recipe, render_report, run_study
from pippin.studies.executors import LocalExecutor
from pippin.studies.shipped.control import CONTROL_ARMS, control_axes


def base_recipe(photos: Path, images: int) -> Recipe:
    """Base recipe of both arms; ``train.images`` is the budget of each run."""
    base = get_recipe("folder/mmdit-disentangled")
    return replace(
        base,
        data=replace(base.data, path=str(photos)),
        train=replace(base.train, images=images),
        evaluation=replace(base.evaluation, parts=("held-out", "quality", "real")),
    )


def own_study(base: Recipe, seeds: tuple[int, ...] = (0, 1, 2, 3, 4)) -> Study:
    """Study of two axes, one per setting that differs; two of their four corners are arms."""
    return Study(
        name="own-conditioning",
        title="Entangled or disentangled conditioning, on a custom data set",
        question="Does the class by attention, with late control, give better images?",
        base=base,
        axes=control_axes(),
        combinations={name: CONTROL_ARMS[name] for name in ("entangled", "disentangled")},
        seeds=seeds,
        primary="KID-efflite0",  # the deciding metric, and the smallest relevant difference
        smallest_effect=0.5,
        companions=("coverage", "held-out loss"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="see docs/reference/data.md")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=200_000, help="training images per run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=1, help="number of concurrent runs")
    args = parser.parse_args()
    study = own_study(base_recipe(args.photos, args.images), tuple(args.seeds))
    executor = LocalExecutor(args.jobs) if args.jobs > 1 else None
    summary = run_study(study, args.folder, execute, print, executor=executor)
    print(summary.statuses)
    print(f"report: {render_report(args.folder)}")
    if summary.interrupted:
        sys.exit(75)  # the same command resumes


if __name__ == "__main__":  # processes of --jobs import this module too
    main()

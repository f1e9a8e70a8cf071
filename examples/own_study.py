# SPDX-License-Identifier: Apache-2.0
"""Compare two ways of conditioning on pictures of one's own, over five training seeds.

    python examples/own_study.py photos studies/photos           # ten runs: half a day
    python examples/own_study.py photos studies/photos --jobs 2  # two at once

Stopped, the same command goes on, and the report may be read at any time. What the study declares
stands from its first run on: another question, budget or metric needs another folder.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from pippin import Recipe, Study, execute, get_recipe, render_report, run_study
from pippin.studies.corners import CORNERS, control_axes
from pippin.study.executors import LocalExecutor


def base_recipe(pictures: Path, images: int) -> Recipe:
    """What both arms share; ``train.images`` is the budget of each run."""
    base = get_recipe("folder/mmdit-disentangled")
    return replace(
        base,
        data=replace(base.data, path=str(pictures)),
        train=replace(base.train, images=images),
        evaluation=replace(base.evaluation, parts=("held-out", "quality", "real")),
    )


def own_study(base: Recipe, seeds: tuple[int, ...] = (0, 1, 2, 3, 4)) -> Study:
    """Two settings differ, so there are two axes; of their four corners two are arms."""
    return Study(
        name="own-conditioning",
        title="Entangled or disentangled conditioning, on pictures of our own",
        question="Does the class by attention, with control heard late, draw better pictures?",
        base=base,
        axes=control_axes(),
        combinations={name: CORNERS[name] for name in ("entangled", "disentangled")},
        seeds=seeds,
        primary="KID-efflite0",  # what decides, and the difference that would matter to us
        smallest_effect=0.5,
        companions=("coverage", "held-out loss"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path, help="see docs/reference/data.md")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=200_000, help="that each run trains on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    given = parser.parse_args()
    study = own_study(base_recipe(given.pictures, given.images), tuple(given.seeds))
    executor = LocalExecutor(given.jobs) if given.jobs > 1 else None
    summary = run_study(study, given.folder, execute, print, executor=executor)
    print(summary.statuses)
    print(f"report: {render_report(given.folder)}")


if __name__ == "__main__":  # processes of --jobs import this module too
    main()

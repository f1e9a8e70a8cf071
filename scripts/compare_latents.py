# SPDX-License-Identifier: Apache-2.0
"""Compare latent spaces: one recipe on several autoencoders, as a study.

    python scripts/compare_latents.py --folder DIR --autoencoders shipped=pippin/openmoji-f4 \
        smooth=runs/smooth --images 40000

Model, budget and seeds are equal for all autoencoders; samples are compared as images, so KID
covers the full pipeline. The held-out loss is in the unit of each latent space and not comparable.
The same command resumes after a stop. Writes report.html and prints its path.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from pippin.evaluation.config import EvaluationConfig
from pippin.recipes.table import get_recipe
from pippin.reports.report import render_report
from pippin.studies.execution import execute
from pippin.studies.runner import run_study
from pippin.studies.study import Axis, Study


def latent_study(sources: dict[str, str], images: int, seeds: tuple[int, ...]) -> Study:
    """Study with one arm per autoencoder."""
    base = get_recipe("openmoji/mmdit-disentangled")
    return Study(
        name="latents",
        title="Latent spaces",
        question="Behind which autoencoder does the same model give better images?",
        base=replace(
            base,
            train=replace(base.train, images=images, preview_every=0),
            sampling=replace(base.sampling, solver="dpm++", steps=16),
            evaluation=EvaluationConfig(num_samples=400, input_size=64),
        ),
        axes={
            "autoencoder": Axis(
                levels={name: {"autoencoder.source": source} for name, source in sources.items()},
                description="what encodes images and decodes samples",
            )
        },
        seeds=seeds,
        primary="KID-efflite0",
        companions=("recall",),
        reproduce=(f"python scripts/compare_latents.py {' '.join(sys.argv[1:])}",),
    )


def main() -> int:
    """Run missing runs, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--autoencoders", nargs="+", required=True, metavar="NAME=SOURCE")
    parser.add_argument("--images", type=int, default=40_000, help="training images per arm")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    sources = dict(pair.split("=", 1) for pair in options.autoencoders)
    study = latent_study(sources, options.images, tuple(options.seeds))
    summary = run_study(study, options.folder, execute, progress=print)
    print(f"report: {render_report(options.folder)}")
    return 75 if summary.interrupted else int("failed" in summary.statuses.values())


if __name__ == "__main__":
    sys.exit(main())

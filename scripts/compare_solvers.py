# SPDX-License-Identifier: Apache-2.0
"""Cost and quality of solvers, guidance intervals and scales: evaluations, seconds and KID.

    python scripts/compare_solvers.py [RUN] [--samples 400]
    python scripts/compare_solvers.py RUN --own

Samples the same seeds and classes of a trained model (the shipped disentangled one) under each
setting; the first is DDIM in 50 steps with two-scale guidance. KID is against the clean training
images; its interval is over samples. The last column, the mean efflite0 distance of an image to
that of the first row, measures the change of the images. --own compares the recipe's own sampling
with DDIM in 50 steps at the same guidance.
"""

import argparse
import sys
import time
from dataclasses import replace

from pippin.evaluation.distances import compare
from pippin.evaluation.features.efflite0 import PerceptualDistance
from pippin.evaluation.features.extraction import build_features, extract
from pippin.evaluation.runs.evaluate import clean_features, evaluation_prompts
from pippin.sampling.config import GuidanceConfig, SamplingConfig
from pippin.sampling.load import load_run
from pippin.sampling.sample import draw

TWO = GuidanceConfig(semantic_scale=2.0, control_scale=1.5)
INTERVAL = replace(TWO, log_snr_interval=(-3.0, 3.0))
SETTINGS = {
    "DDIM 50": SamplingConfig(solver="ddim", steps=50, guidance=TWO),
    "DDIM 50, interval -3 to 3": SamplingConfig(solver="ddim", steps=50, guidance=INTERVAL),
    "DPM++ 15": SamplingConfig(solver="dpm++", steps=15, guidance=TWO),
    "DPM++ 15, interval -3 to 3": SamplingConfig(solver="dpm++", steps=15, guidance=INTERVAL),
    "DPM++ 15, lambda alone": SamplingConfig(
        solver="dpm++", steps=15, guidance=replace(TWO, control_scale=1.0)
    ),
    "DDIM 50, no guidance": SamplingConfig(solver="ddim", steps=50),
}


def main() -> int:
    """Sample, measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default="pippin/openmoji-mmdit-disentangled")
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--own", action="store_true", help="the recipe's own settings")
    options = parser.parse_args()
    run = load_run(options.run)
    config = replace(run.recipe.evaluation, num_samples=options.samples, input_size=64)
    extractor = build_features(config)
    reference = clean_features(run.components.data, config, "train", run.components.device)
    prompts, seeds = evaluation_prompts(run, options.samples), range(options.samples)
    distance, first = PerceptualDistance(extractor), None
    print("| setting | evaluations per image | seconds | KID-efflite0 | change |")
    print("| --- | --- | --- | --- | --- |")
    own = run.recipe.sampling
    compared = {"DDIM 50": replace(own, solver="ddim", steps=50), "the recipe's": own}
    for name, sampling in (compared if options.own else SETTINGS).items():
        start = time.perf_counter()
        images = draw(run, prompts, seeds, sampling)
        seconds = time.perf_counter() - start
        first = images if first is None else first
        kid = compare(extract(extractor, [images]), reference, config)[0]
        evaluations = run.sampler(sampling).evaluations_per_image
        change = distance(first, images).mean()
        print(
            f"| {name} | {evaluations} | {seconds:.0f} | {kid.value:.2f} [{kid.low:.2f}, "
            f"{kid.high:.2f}] | {change:.3f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

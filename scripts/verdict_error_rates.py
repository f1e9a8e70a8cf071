# SPDX-License-Identifier: Apache-2.0
"""Error rates of verdicts on declared contrasts, from simulated studies with known truth.

    python scripts/verdict_error_rates.py --studies 20000

Prints the tables of docs/reference/studies.md: share of studies with any false "supported", and
power against its closed form. Takes a few seconds without training.
"""

import argparse
import math

from pippin.studies.contrasts import Prediction
from pippin.studies.power import (
    Design,
    Rate,
    any_rate,
    designs,
    power_of_difference,
    simulated_verdicts,
)

SEEDS = (3, 5, 8)
NULLS: dict[str, Prediction] = {"no effect, either way": "open", "no effect, one way": "negative"}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=20_000, help="simulated studies per row")
    studies = parser.parse_args().studies
    print('| design | claims | seeds | studies with a false "supported" | 95 % interval |')
    print("| --- | --- | --- | --- | --- |")
    for title, predicted in NULLS.items():
        for index, design in enumerate(designs(predicted)):
            for seeds in SEEDS:
                _line(design, title, seeds, _false_rate(design, seeds, studies, index))
    for design in designs("none", smallest_effect=2.0)[:2]:
        means = dict.fromkeys(design.arms[1:], 2.0)
        for seeds in SEEDS:
            verdicts = simulated_verdicts(
                design, seeds=seeds, studies=studies, means=means, seed=seeds
            )
            _line(
                design,
                "no difference, where it just matters",
                seeds,
                any_rate(verdicts, "supported"),
            )
    _power(studies)


def _false_rate(design: Design, seeds: int, studies: int, index: int) -> Rate:
    verdicts = simulated_verdicts(design, seeds=seeds, studies=studies, seed=100 * index + seeds)
    return any_rate(verdicts, "supported")


def _line(design: Design, title: str, seeds: int, rate: Rate) -> None:
    low, high = (100 * end for end in rate.interval)
    print(
        f"| {design.name} | {title} | {seeds} | {100 * rate.value:.2f} % | "
        f"[{low:.2f}, {high:.2f}] % |"
    )


def _power(studies: int) -> None:
    """Power of one contrast at a true effect of 1.5 standard deviations of an arm's noise."""
    print("\n| contrast | seeds | supported | 95 % interval | noncentral t |")
    print("| --- | --- | --- | --- | --- |")
    one, _, square = designs("positive")
    main_effect = Design(name="main effect", arms=square.arms, contrasts=square.contrasts[:1])
    both = Design(name="interaction", arms=square.arms, contrasts=square.contrasts[2:])
    truth = {
        "one difference": {"b": 1.5},
        "main effect": {"highlow": 1.5, "highhigh": 1.5},
        "interaction": {"highhigh": 1.5},
    }
    for design in (one, main_effect, both):
        for seeds in SEEDS:
            verdicts = simulated_verdicts(
                design, seeds=seeds, studies=studies, means=truth[design.name], seed=seeds
            )
            rate, spread = any_rate(verdicts, "supported"), design.spreads(1.0)[0]
            assert math.isclose(design.true_values(truth[design.name])[0], 1.5)
            low, high = rate.interval
            print(
                f"| {design.name} | {seeds} | {rate.value:.3f} | [{low:.3f}, {high:.3f}] | "
                f"{power_of_difference(1.5, spread, seeds):.3f} |"
            )


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Error rates of agreements of rankings, from simulated studies with known truth.

    python scripts/agreement_error_rates.py --studies 300

Prints the numbers of docs/reference/studies.md: how often the interval holds the true correlation,
and how often noise that a method shares between both rankings looks like agreement. Six methods,
values normal with a standard deviation of 1. Takes about three minutes without training.
"""

import argparse

import numpy as np

from pippin.studies.power import Rate
from pippin.studies.rank_correlation import interval, spearman
from pippin.studies.statistics import FloatArray

ORDERS = {
    "equal": (0, 1, 2, 3, 4, 5),
    "neighbours exchanged": (1, 0, 3, 2, 5, 4),
    "unrelated": (3, 5, 1, 4, 0, 2),
}
"""Second orders of the methods; the first is always 0, 1, 2, ..."""
SPACINGS = (0.3, 0.7, 2.0)
SHARES = (0.0, 0.5, 0.9, 1.0)
SEEDS = (2, 3, 5)
CHUNK = 100
"""Studies whose resamples are held in memory at once."""


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=300, help="simulated studies per row")
    studies = parser.parse_args().studies
    print("| second order | distance of neighbours | interval holds the truth | supported |")
    print("| --- | --- | --- | --- |")
    for name, order in ORDERS.items():
        for spacing in SPACINGS:
            low, high = _intervals(order, spacing=spacing, share=0.0, seeds=5, studies=studies)
            truth = float(spearman(ORDERS["equal"], order))
            held = (low <= truth + 1e-9) & (high >= truth - 1e-9)
            print(f"| {name} | {spacing:g} | {_rate(held)} | {_rate(low > 0)} |", flush=True)
    print("\nStudies of methods that do not differ that are found to agree:\n")
    print(f"| share of the variance | {' | '.join(f'{one} seeds' for one in SEEDS)} |")
    print(f"| --- |{' --- |' * len(SEEDS)}")
    for share in SHARES:
        cells = []
        for seeds in SEEDS:
            low, _ = _intervals(
                ORDERS["equal"], spacing=0.0, share=share, seeds=seeds, studies=studies
            )
            cells.append(_rate(low > 0))
        print(f"| {share:g} | {' | '.join(cells)} |", flush=True)


def _intervals(
    order: tuple[int, ...], *, spacing: float, share: float, seeds: int, studies: int
) -> tuple[FloatArray, FloatArray]:
    """(studies,): ends of the intervals of simulated studies.

    Args:
        order: place of each method in the second ranking.
        spacing: distance of neighbours, in standard deviations.
        share: share of the variance that a method has in common between both rankings at a seed.
        seeds: training seeds.
        studies: number of simulated studies.
    """
    draw = np.random.default_rng(0)
    lows, highs = [], []
    for start in range(0, studies, CHUNK):
        shape = (len(order), min(CHUNK, studies - start), seeds)
        common = np.sqrt(share) * draw.normal(size=shape)
        rankings = [
            np.reshape(places, (-1, 1, 1)) * spacing
            + common
            + np.sqrt(1 - share) * draw.normal(size=shape)
            for places in (range(len(order)), order)
        ]
        low, high = interval(spearman, [*rankings[0]], [*rankings[1]])
        lows.append(low)
        highs.append(high)
    return np.concatenate(lows), np.concatenate(highs)


def _rate(hits: np.ndarray) -> str:
    rate = Rate(count=int(hits.sum()), total=hits.size)
    low, high = (100 * end for end in rate.interval)
    return f"{100 * rate.value:.1f} % [{low:.1f}, {high:.1f}]"


if __name__ == "__main__":
    main()

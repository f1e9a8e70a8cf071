# SPDX-License-Identifier: Apache-2.0
"""Precision, recall, density and coverage of one set of features against another.

B(x) is the open ball around x up to its k-th nearest neighbour in its own set.

- precision: share of generated samples inside some reference ball;
- recall: share of reference samples inside some generated ball
  (both Kynkaanniemi et al. 2019, section 3);
- density: mean number of reference balls a generated sample lies in, over k (can exceed 1);
- coverage: share of reference balls that hold a generated sample
  (both Naeem et al. 2020, section 3).

Memory is linear in the number of images: distances are computed block by block of reference
images.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from pippin.evaluation.measure import Jackknife

CELLS = 2**22
"""Number of distances in memory at once."""


@dataclass(frozen=True, kw_only=True)
class Neighbourhoods:
    """The four metrics, each with its values when one generated image is left out.

    The reference is fixed. Leaving out a generated image also enlarges the balls that it bounds;
    this is computed exactly.
    """

    precision: Jackknife
    recall: Jackknife
    density: Jackknife
    coverage: Jackknife


def prdc(
    generated: Float[Tensor, "n dim"],
    reference: Float[Tensor, "m dim"],
    neighbours: int,
    reference_radii: Float64[Tensor, " m"] | None = None,
) -> Neighbourhoods:
    """Precision, recall, density and coverage from k nearest neighbours.

    Args:
        generated: features of n images.
        reference: features of m images.
        neighbours: k.
        reference_radii: :func:`squared_radii` of the reference, if already computed.

    Raises:
        ValueError: k below 1, or a side has too few images: n >= k + 2 and m >= k + 1.
    """
    check_counts(len(generated), len(reference), neighbours)
    x, y = generated.double(), reference.double()
    n, m = len(x), len(y)
    if reference_radii is None:
        reference_radii = squared_radii(y, neighbours)
    radii, nearest = _nearest(x, neighbours + 1)  # the last one bounds an enlarged ball
    balls = torch.zeros(n, dtype=torch.float64)
    recalled, covered = _Count(n), _Count(n)
    for rows, distances in _blocks(y, x):
        in_reference = distances < reference_radii[rows, None]  # (block, n)
        balls += in_reference.sum(0)
        covered.add(in_reference)
        in_generated = distances < radii[:, -2]
        grown = (distances < radii[:, -1]) & ~in_generated
        recalled.add(in_generated, _gains(grown, nearest[:, :neighbours]))
    return Neighbourhoods(
        precision=_mean((balls > 0).double()),
        recall=recalled.share(m),
        density=_mean(balls / neighbours),
        coverage=covered.share(m),
    )


def squared_radii(values: Float64[Tensor, "n dim"], neighbours: int) -> Float64[Tensor, " n"]:
    """Squared distance of each sample to its k-th neighbour in the same set."""
    return _nearest(values, neighbours)[0][:, -1]


class _Count:
    """Number of rows with at least one hit: with all columns, and with each column left out."""

    def __init__(self, columns: int) -> None:
        self.total = 0.0
        self.leave_one_out = torch.zeros(columns, dtype=torch.float64)

    def add(self, hits: Tensor, gained: Tensor | None = None) -> None:
        """Add rows; ``gained`` (rows, columns) are hits gained when a column is left out."""
        counts = hits.sum(1, keepdim=True)
        self.total += float((counts > 0).sum())
        remaining = counts - hits.long()
        if gained is not None:
            remaining = remaining + gained
        self.leave_one_out += (remaining > 0).sum(0)

    def share(self, rows: int) -> Jackknife:
        return Jackknife(value=self.total / rows, leave_one_out=self.leave_one_out / rows)


def _gains(
    grown: Bool[Tensor, "block n"], nearest: Int64[Tensor, "n k"]
) -> Float[Tensor, "block n"]:
    """Number of balls that gain a row when a column is left out.

    A ball grows from the k-th to the (k + 1)-th neighbour when one of its k nearest is left out.
    """
    gains = torch.zeros(grown.shape)
    source = grown.float()
    for column in nearest.unbind(1):
        gains.index_add_(1, column, source)
    return gains


def _mean(values: Float64[Tensor, " n"]) -> Jackknife:
    n = len(values)
    return Jackknife(value=float(values.mean()), leave_one_out=(values.sum() - values) / (n - 1))


def _nearest(
    values: Float64[Tensor, "n dim"], count: int
) -> tuple[Float64[Tensor, "n count"], Int64[Tensor, "n count"]]:
    """Squared distances to the nearest other samples, ascending, and the samples' indices."""
    blocks = []
    for rows, distances in _blocks(values, values):
        block = torch.arange(len(distances))
        distances[block, block + rows.start] = torch.inf
        blocks.append(distances.topk(count, largest=False))
    return torch.cat([nearest.values for nearest in blocks]), torch.cat(
        [nearest.indices for nearest in blocks]
    )


def _blocks(
    rows: Float64[Tensor, "m dim"], columns: Float64[Tensor, "n dim"]
) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances of blocks of rows to all columns."""
    size = max(1, CELLS // len(columns))
    column_norms = columns.square().sum(1)
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        scale = part.square().sum(1, keepdim=True) + column_norms
        distances = scale - 2 * part @ columns.T
        # Two copies of one image must have distance 0 in spite of rounding.
        yield slice(start, start + len(part)), distances.masked_fill(distances < 1e-12 * scale, 0)


def check_counts(generated: int, reference: int, neighbours: int) -> None:
    """Refuse sets without enough neighbours.

    Raises:
        ValueError: k below 1, or a side has too few images.
    """
    if neighbours < 1 or generated < neighbours + 2 or reference < neighbours + 1:
        raise ValueError(
            f"with {neighbours} neighbours (at least 1), precision, recall, density and coverage "
            f"need at least {neighbours + 2} generated and {neighbours + 1} reference images; "
            f"got {generated} and {reference}"
        )

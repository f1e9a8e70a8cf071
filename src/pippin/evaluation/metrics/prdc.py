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
images, in the same two buffers. New tensors for each block would not do: a C library may leave the
memory of the earlier ones unused (glibc before 2.38 does, for aligned blocks below 32 MiB).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
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
        recalled.add(in_generated, grown, nearest[:, :neighbours])
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

    def add(
        self, hits: Tensor, grown: Tensor | None = None, nearest: Tensor | None = None
    ) -> None:
        """Add rows.

        Args:
            hits: (rows, columns); whether a row is in the ball of a column.
            grown: (rows, columns); whether it is in the ball once one of the column's nearest is
                left out, and not before: a ball then grows from the k-th to the (k + 1)-th.
            nearest: (columns, k); the k nearest of each column.
        """
        counts = hits.sum(1, keepdim=True)
        self.total += float((counts > 0).sum())
        without = (counts == 0) | (hits & (counts == 1))  # no hit once the column is left out
        if grown is not None and nearest is not None:
            rows, columns = grown.nonzero(as_tuple=True)
            for neighbour in nearest.unbind(1):
                without[rows, neighbour[columns]] = False
        self.leave_one_out += len(hits) - without.sum(0)

    def share(self, rows: int) -> Jackknife:
        return Jackknife(value=self.total / rows, leave_one_out=self.leave_one_out / rows)


def _mean(values: Float64[Tensor, " n"]) -> Jackknife:
    n = len(values)
    return Jackknife(value=float(values.mean()), leave_one_out=(values.sum() - values) / (n - 1))


def _nearest(
    values: Float64[Tensor, "n dim"], count: int
) -> tuple[Float64[Tensor, "n count"], Int64[Tensor, "n count"]]:
    """Squared distances to the nearest other samples, ascending, and the samples' indices."""
    nearest = values.new_empty(len(values), count)
    indices = torch.empty(len(values), count, dtype=torch.long)
    for rows, distances in _blocks(values, values):
        block = torch.arange(len(distances))
        distances[block, block + rows.start] = torch.inf
        nearest[rows], indices[rows] = distances.topk(count, largest=False)
    return nearest, indices


def _blocks(
    rows: Float64[Tensor, "m dim"], columns: Float64[Tensor, "n dim"]
) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances of blocks of rows to all columns; the next block overwrites a block."""
    size = min(len(rows), max(1, CELLS // len(columns)))
    column_norms = columns.square().sum(1)
    buffers = rows.new_empty(2, size, len(columns))
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        scale, distances = buffers[:, : len(part)]
        torch.add(part.square().sum(1, keepdim=True), column_norms, out=scale)
        torch.mm(2 * part, columns.T, out=distances)
        torch.sub(scale, distances, out=distances)
        # Two copies of one image must have distance 0 in spite of rounding.
        distances.masked_fill_(distances < scale.mul_(1e-12), 0)
        yield slice(start, start + len(part)), distances


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

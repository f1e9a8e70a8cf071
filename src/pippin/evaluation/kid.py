# SPDX-License-Identifier: Apache-2.0
"""Kernel distance: the unbiased squared maximum mean discrepancy between two sets of features.

k(x, y) = (x . y / d + 1)^3 (Binkowski et al. 2018, section 4). The estimate is unbiased at any
number of samples, so it may be below zero where the two sets are alike.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from pippin.evaluation.measure import Jackknife
from pippin.rng import permutation

CELLS = 2**23
"""Kernel values held in memory at once."""


def kernel(
    x: Float64[Tensor, "rows dim"], y: Float64[Tensor, "columns dim"]
) -> Float64[Tensor, "rows columns"]:
    """The cubic polynomial kernel of all pairs."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def kernel_distance(
    generated: Float[Tensor, "n dim"],
    reference: Float[Tensor, "m dim"],
    within: Float64[Tensor, ""] | None = None,
) -> Jackknife:
    """The unbiased estimate from all samples of both sides.

    The jackknife leaves out generated samples and holds the reference fixed: its interval says
    how the number would vary over other samples of the same model. Where the two distributions
    agree the statistic is degenerate, and the interval is too wide by about sqrt(2), not too
    narrow.

    Args:
        generated: features of n images.
        reference: features of m images.
        within: :func:`unbiased_within` of the reference, where it is known already: of a large
            one it is nearly all the work.

    Raises:
        ValueError: fewer than three generated or two reference samples.
    """
    _check_counts(len(generated), len(reference))
    x, y = generated.double(), reference.double()
    n = len(x)
    others = _row_sums(x, x) - kernel_diagonal(x)  # (n,) over the other generated samples
    across = _row_sums(x, y) / len(y)  # (n,)
    total, crossed = others.sum(), across.sum()
    own = unbiased_within(y) if within is None else within
    value = total / (n * (n - 1)) + own - 2 * crossed / n
    left_out = (total - 2 * others) / ((n - 1) * (n - 2)) + own - 2 * (crossed - across) / (n - 1)
    return Jackknife(value=float(value), left_out=left_out)


def subset_distances(
    generated: Float[Tensor, "n dim"],
    reference: Float[Tensor, "m dim"],
    *,
    subsets: int,
    size: int,
    seed: int,
) -> Float64[Tensor, " subsets"]:
    """The unbiased estimate on random subsets of both sides, drawn without replacement.

    Raises:
        ValueError: a subset larger than a side, or a size below 2.
    """
    if not 2 <= size <= min(len(generated), len(reference)):
        raise ValueError(
            f"KID subsets of {size} need that many images on both sides and at least 2; there "
            f"are {len(generated)} generated and {len(reference)} reference images"
        )
    found = []
    for index in range(subsets):
        ours = permutation(len(generated), "subset", seed, "kid", index, "generated")[:size]
        theirs = permutation(len(reference), "subset", seed, "kid", index, "reference")[:size]
        x, y = generated[ours].double(), reference[theirs].double()
        cross = kernel(x, y).mean()
        found.append(unbiased_within(x) + unbiased_within(y) - 2 * cross)
    return torch.stack(found)


def kernel_diagonal(x: Float64[Tensor, "n dim"]) -> Float64[Tensor, " n"]:
    """k(x, x) of every sample."""
    return (x.square().sum(1) / x.shape[1] + 1) ** 3


def unbiased_within(x: Float64[Tensor, "n dim"]) -> Float64[Tensor, ""]:
    """The mean of the kernel over pairs of different samples."""
    n = len(x)
    return (_row_sums(x, x) - kernel_diagonal(x)).sum() / (n * (n - 1))


def _row_sums(x: Tensor, y: Tensor) -> Tensor:
    rows = max(1, CELLS // len(y))
    return torch.cat([kernel(part, y).sum(1) for part in x.split(rows)])


def _check_counts(generated: int, reference: int) -> None:
    if generated < 3 or reference < 2:
        raise ValueError(
            "a kernel distance needs at least 3 generated and 2 reference images; got "
            f"{generated} and {reference}"
        )

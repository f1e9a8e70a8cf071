# SPDX-License-Identifier: Apache-2.0
"""Kernel distance: the unbiased squared maximum mean discrepancy between two sets of features.

k(x, y) = (x . y / d + 1)^3 (Binkowski et al. 2018, section 4). The estimate is unbiased at any
number of samples, so it may be negative for similar sets.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from pippin.evaluation.measure import Jackknife
from pippin.rng import permutation

CELLS = 2**23
"""Number of kernel values in memory at once."""


def kernel(
    x: Float64[Tensor, "rows dim"], y: Float64[Tensor, "columns dim"]
) -> Float64[Tensor, "rows columns"]:
    """Cubic polynomial kernel of all pairs."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def kernel_distance(
    generated: Float[Tensor, "n dim"],
    reference: Float[Tensor, "m dim"],
    within: Float64[Tensor, ""] | None = None,
) -> Jackknife:
    """Unbiased estimate from all samples of both sides.

    The jackknife leaves out generated samples and keeps the reference fixed: its interval covers
    other samples of the same model. If the two distributions are equal, the statistic is
    degenerate, and the interval is too wide by about sqrt(2), not too narrow.

    Args:
        generated: features of n images.
        reference: features of m images.
        within: :func:`unbiased_within` of the reference, if already computed: for a large
            reference it takes most of the time.

    Raises:
        ValueError: fewer than three generated or two reference samples.
    """
    _check_counts(len(generated), len(reference))
    x, y = generated.double(), reference.double()
    n = len(x)
    within_sums = row_sums(kernel, x, x) - kernel_diagonal(x)  # (n,) over other samples
    cross_means = row_sums(kernel, x, y) / len(y)  # (n,)
    total, cross_total = within_sums.sum(), cross_means.sum()
    reference_within = unbiased_within(y) if within is None else within
    value = total / (n * (n - 1)) + reference_within - 2 * cross_total / n
    leave_one_out = (
        (total - 2 * within_sums) / ((n - 1) * (n - 2))
        + reference_within
        - 2 * (cross_total - cross_means) / (n - 1)
    )
    return Jackknife(value=float(value), leave_one_out=leave_one_out)


def subset_distances(
    generated: Float[Tensor, "n dim"],
    reference: Float[Tensor, "m dim"],
    *,
    subsets: int,
    size: int,
    seed: int,
) -> Float64[Tensor, " subsets"]:
    """Unbiased estimates on random subsets of both sides, drawn without replacement.

    Raises:
        ValueError: a subset larger than a side, or a size below 2.
    """
    if not 2 <= size <= min(len(generated), len(reference)):
        raise ValueError(
            f"KID subsets of {size} need that many images on both sides and at least 2; there "
            f"are {len(generated)} generated and {len(reference)} reference images"
        )
    estimates = []
    for index in range(subsets):
        generated_rows = permutation(len(generated), "subset", seed, "kid", index, "generated")[
            :size
        ]
        reference_rows = permutation(len(reference), "subset", seed, "kid", index, "reference")[
            :size
        ]
        x, y = generated[generated_rows].double(), reference[reference_rows].double()
        cross = kernel(x, y).mean()
        estimates.append(unbiased_within(x) + unbiased_within(y) - 2 * cross)
    return torch.stack(estimates)


def kernel_diagonal(x: Float64[Tensor, "n dim"]) -> Float64[Tensor, " n"]:
    """Kernel k(x, x) of every sample."""
    return (x.square().sum(1) / x.shape[1] + 1) ** 3


def unbiased_within(x: Float64[Tensor, "n dim"]) -> Float64[Tensor, ""]:
    """Mean of the kernel over pairs of different samples."""
    n = len(x)
    return (row_sums(kernel, x, x) - kernel_diagonal(x)).sum() / (n * (n - 1))


def row_sums(
    kernel: Callable[[Tensor, Tensor], Tensor],
    x: Float64[Tensor, "n dim"],
    y: Float64[Tensor, "m dim"],
) -> Float64[Tensor, " n"]:
    """Sum of a kernel over all of ``y``, for each row of ``x``; in blocks of bounded memory."""
    rows = max(1, CELLS // len(y))
    return torch.cat([kernel(part, y).sum(1) for part in x.split(rows)])


def _check_counts(generated: int, reference: int) -> None:
    if generated < 3 or reference < 2:
        raise ValueError(
            "a kernel distance needs at least 3 generated and 2 reference images; got "
            f"{generated} and {reference}"
        )

# SPDX-License-Identifier: Apache-2.0
"""Noise of a Frechet distance of few samples: a jackknife over groups of them.

With n samples of d > n features, the covariance of the samples has rank n - 1, so the trace of the
square root in the distance has n - 1 terms: the square roots of the eigenvalues of X C X', where
the rows of X are the centred samples over sqrt(n - 1) and C is the covariance of the reference.
One n by n product serves every group.
"""

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from pippin.evaluation.measure import Jackknife
from pippin.evaluation.metrics.frechet import Gaussian

GROUPS = 20
"""Number of groups that are left out in turn."""


def frechet_jackknife(
    generated: Float[Tensor, "n dim"], reference: Gaussian, groups: int = GROUPS
) -> Jackknife:
    """Squared Frechet distance of few samples, and its values without each group of them.

    Its interval covers other samples of the same model; the reference is fixed. It does not cover
    the bias of few samples, which is the same at every measure of equally many.

    Args:
        generated: features of n images.
        reference: of as many dimensions.
        groups: each n-th sample belongs to one group.

    Raises:
        ValueError: fewer than three samples.
    """
    n = len(generated)
    if n < 3:
        raise ValueError(f"a jackknife of a Frechet distance needs 3 images or more; got {n}")
    x = generated.double().cpu() - reference.mean  # (n, dim)
    products = x @ x.T, x @ reference.covariance @ x.T
    trace = float(reference.covariance.trace())
    member = torch.arange(n) % min(groups, n)
    without = [
        _distance(*products, trace, torch.nonzero(member != group)[:, 0])
        for group in range(min(groups, n))
    ]
    whole = _distance(*products, trace, torch.arange(n))
    return Jackknife(value=whole, leave_one_out=torch.tensor(without, dtype=torch.float64))


def _distance(
    plain: Float64[Tensor, "n n"],
    weighted: Float64[Tensor, "n n"],
    reference_trace: float,
    rows: Int[Tensor, " rows"],
) -> float:
    """Distance of a subset of the samples.

    Args:
        plain: products x x' of the samples, relative to the reference's mean.
        weighted: x C x', with the reference's covariance.
        reference_trace: trace of C.
        rows: the subset.
    """
    count = len(rows)
    plain, weighted = plain[rows][:, rows], weighted[rows][:, rows]
    mean_distance = plain.mean()
    spread = (plain.trace() - count * mean_distance) / (count - 1)
    centred = weighted - weighted.mean(0) - weighted.mean(1, keepdim=True) + weighted.mean()
    eigenvalues = torch.linalg.eigvalsh(centred / (count - 1))  # ascending
    noise = eigenvalues[-1] * count * torch.finfo(torch.float64).eps
    overlap = torch.where(eigenvalues > noise, eigenvalues, 0).sqrt().sum()
    return float(mean_distance + spread + reference_trace - 2 * overlap)

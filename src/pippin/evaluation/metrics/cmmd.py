# SPDX-License-Identifier: Apache-2.0
"""CMMD (Jayasumana et al. 2024, arXiv 2401.09603): maximum mean discrepancy in CLIP embeddings.

k(x, y) = exp(-|x - y|^2 / (2 * 10^2)) of unit-length embeddings, and

    CMMD = 1000 (mean k(x, x') + mean k(y, y') - 2 mean k(x, y))

over all pairs, an image with itself included, as the published implementation computes it. That
estimate is never negative, and n samples on a side raise it by 1000 (1 - mean k) / n.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from pippin.evaluation.measure import Jackknife
from pippin.evaluation.metrics.kid import row_sums

WIDTH = 10.0
SCALE = 1000.0


def gaussian_kernel(
    x: Float64[Tensor, "rows dim"], y: Float64[Tensor, "columns dim"]
) -> Float64[Tensor, "rows columns"]:
    """Gaussian kernel of width 10 of all pairs."""
    squared = x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T
    return torch.exp(squared.clamp(min=0) / (-2 * WIDTH**2))


def gaussian_within(x: Float64[Tensor, "n dim"]) -> Float64[Tensor, ""]:
    """Mean of the kernel over all pairs of a set, each sample with itself included."""
    return row_sums(gaussian_kernel, x, x).sum() / len(x) ** 2


def clip_discrepancy(
    generated: Float[Tensor, "n dim"],
    reference: Float[Tensor, "m dim"],
    within: Float64[Tensor, ""] | None = None,
) -> Jackknife:
    """CMMD with its leave-one-out values; the jackknife keeps the reference fixed.

    Args:
        generated, reference: unit-length CLIP embeddings of n and m images.
        within: :func:`gaussian_within` of the reference, if already computed.

    Raises:
        ValueError: fewer than three generated images or no reference image.
    """
    if len(generated) < 3 or not len(reference):
        raise ValueError(
            "CMMD needs at least 3 generated images and 1 reference image; got "
            f"{len(generated)} and {len(reference)}"
        )
    x, y = generated.double(), reference.double()
    n = len(x)
    within_sums = row_sums(gaussian_kernel, x, x)  # (n,) over all samples
    cross_means = row_sums(gaussian_kernel, x, y) / len(y)  # (n,)
    total, cross_total = within_sums.sum(), cross_means.sum()
    reference_within = gaussian_within(y) if within is None else within
    value = total / n**2 + reference_within - 2 * cross_total / n
    leave_one_out = (
        (total - 2 * within_sums + 1) / (n - 1) ** 2
        + reference_within
        - 2 * (cross_total - cross_means) / (n - 1)
    )
    return Jackknife(value=SCALE * float(value), leave_one_out=SCALE * leave_one_out)

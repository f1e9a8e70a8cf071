# SPDX-License-Identifier: Apache-2.0
"""Frechet distance and Inception score, in float64.

The Frechet distance is that between Gaussians fitted to two sets of features:

    d^2 = |mu_1 - mu_2|^2 + tr(C_1) + tr(C_2) - 2 tr((C_1^1/2 C_2 C_1^1/2)^1/2)

(Dowson & Landau 1982; Heusel et al. 2017, eq. 6). With fewer samples than dimensions its bias is
far larger than typical differences between models, so it is reported with N and beside the same
distance between real images.

The Inception score (Salimans et al. 2016, section 4) needs no reference:

    IS = exp(mean over x of KL(p(y | x) || p(y))),    p(y) = mean over x of p(y | x)

It is 1 if the classifier predicts the same distribution for all images, and at most the number of
classes. Papers report the mean over 10 splits of the images.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class FittedGaussian:
    """Mean and covariance of an unknown number of samples."""

    mean: Float64[Tensor, " dim"]
    covariance: Float64[Tensor, "dim dim"]
    """May be singular."""


@dataclass(frozen=True, kw_only=True)
class GaussianStatistics:
    """Count, mean and scatter of a set of features; merges across batches and shards."""

    count: int
    mean: Float64[Tensor, " dim"]
    scatter: Float64[Tensor, "dim dim"]
    """Sum of outer products of deviations from the mean."""

    @classmethod
    def empty(cls, dim: int) -> "GaussianStatistics":
        """Statistics of an empty set."""
        zeros = torch.zeros(dim, dim, dtype=torch.float64)
        return cls(count=0, mean=zeros[0].clone(), scatter=zeros)

    @classmethod
    def from_features(cls, values: Float[Tensor, "batch dim"]) -> "GaussianStatistics":
        """Statistics of one batch."""
        values = values.detach().double().cpu()
        if len(values) == 0:
            return cls.empty(values.shape[1])
        mean = values.mean(0)
        deviations = values - mean
        return cls(count=len(values), mean=mean, scatter=deviations.T @ deviations)

    def merge(self, other: "GaussianStatistics") -> "GaussianStatistics":
        """Statistics of the union of both sets (Chan, Golub & LeVeque 1979, eq. 2.1)."""
        count = self.count + other.count
        if count == 0:
            return self
        gap = other.mean - self.mean
        between = torch.outer(gap, gap) * (self.count * other.count / count)
        return GaussianStatistics(
            count=count,
            mean=self.mean + gap * (other.count / count),
            scatter=self.scatter + other.scatter + between,
        )

    @property
    def covariance(self) -> Float64[Tensor, "dim dim"]:
        """Unbiased covariance.

        Raises:
            ValueError: fewer than two samples.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs two samples or more, got {self.count}")
        return self.scatter / (self.count - 1)


Gaussian = GaussianStatistics | FittedGaussian
"""Operand of a Frechet distance."""


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """Squared Frechet distance, as papers report it; covariances may be singular.

    Raises:
        ValueError: different dimensions, or fewer than two samples on a side.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(
            f"feature dimensions differ: {len(first.mean)} and {len(second.mean)}; use features "
            "of the same network and layer"
        )
    first_covariance, second_covariance = first.covariance, second.covariance
    root = _root(first_covariance)
    # C_1^1/2 C_2 C_1^1/2 has the eigenvalues of R' C_2 R for every R with R R' = C_1; the
    # eigenvalues that R' omits are zero.
    inner = root.T @ second_covariance @ root
    overlap, _ = _eigh((inner + inner.T) / 2)
    overlap = torch.where(overlap > _noise(overlap), overlap, 0).sqrt().sum()
    mean_distance = (first.mean - second.mean).square().sum()
    spread = first_covariance.trace() + second_covariance.trace()
    return float(mean_distance + spread - 2 * overlap)


def _root(covariance: Float64[Tensor, "dim dim"]) -> Float64[Tensor, "dim rank"]:
    """Matrix R with R R' = covariance and as many columns as the rank."""
    values, vectors = _eigh(covariance)
    kept = values > _noise(values)
    root = covariance.new_zeros(len(covariance), int(kept.sum()))
    root[_varies(covariance)] = vectors[:, kept] * values[kept].sqrt()
    return root


def _eigh(matrix: Float64[Tensor, "dim dim"]) -> tuple[Tensor, Tensor]:
    """Eigenvalues (ascending) and eigenvectors of the block of features that vary.

    Constant features add eigenvalues of exactly 0, and with many of them LAPACK may not converge.
    """
    block = matrix[_varies(matrix)][:, _varies(matrix)]
    return torch.linalg.eigh(block)


def _varies(matrix: Float64[Tensor, "dim dim"]) -> Tensor:
    """Mask of the non-zero rows of a positive semi-definite matrix."""
    return matrix.diagonal() > 0


def _noise(values: Float64[Tensor, " n"]) -> float:
    """Threshold up to which eigenvalues are zero but for rounding."""
    largest = float(values[-1]) if len(values) else 0.0
    return largest * len(values) * torch.finfo(torch.float64).eps


SPLITS = 10
"""Number of splits whose scores are averaged."""
ORDER_SEED = 2020
"""Seed of torch-fidelity's order of images, used so that scores agree with torch-fidelity."""


def inception_scores(
    logits: Float[Tensor, "count classes"], splits: int = SPLITS
) -> Float64[Tensor, " splits"]:
    """Score of each of ``splits`` consecutive splits of the images.

    Raises:
        ValueError: fewer images than splits.
    """
    count = len(logits)
    if not 1 <= splits <= count:
        raise ValueError(
            f"an Inception score over {splits} splits needs at least {splits} images; got {count}"
        )
    scores = []
    for index in range(splits):
        part = logits[index * count // splits : (index + 1) * count // splits].double()
        log_p = part.log_softmax(dim=1)  # (images, classes)
        log_marginal = log_p.logsumexp(dim=0) - np.log(len(part))
        divergence = (log_p.exp() * (log_p - log_marginal)).sum(dim=1)
        scores.append(divergence.mean().exp())
    return torch.stack(scores)


def shuffled_order(count: int) -> Int64[Tensor, " count"]:
    """torch-fidelity's random order, so that sorted files do not give splits of one class."""
    return torch.from_numpy(np.random.RandomState(ORDER_SEED).permutation(count))

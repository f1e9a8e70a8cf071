# SPDX-License-Identifier: Apache-2.0
"""Frechet distance between Gaussians fitted to two sets of features, in float64.

d^2 = |mu_1 - mu_2|^2 + tr(C_1) + tr(C_2) - 2 tr((C_1^1/2 C_2 C_1^1/2)^1/2)
(Dowson & Landau 1982; Heusel et al. 2017, eq. 6). With fewer samples than dimensions its bias is
far larger than the differences one looks for, so it is reported with N and beside the same
distance between real pictures.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class FittedGaussian:
    """A mean and a covariance, of however many samples."""

    mean: Float64[Tensor, " dim"]
    covariance: Float64[Tensor, "dim dim"]
    """It may be singular."""


@dataclass(frozen=True, kw_only=True)
class GaussianStatistics:
    """Count, mean and scatter of a set of features; grows by batches, merges across shards."""

    count: int
    mean: Float64[Tensor, " dim"]
    scatter: Float64[Tensor, "dim dim"]
    """The sum of outer products of deviations from the mean."""

    @classmethod
    def empty(cls, dim: int) -> "GaussianStatistics":
        """Of no features at all."""
        zeros = torch.zeros(dim, dim, dtype=torch.float64)
        return cls(count=0, mean=zeros[0].clone(), scatter=zeros)

    @classmethod
    def of(cls, values: Float[Tensor, "batch dim"]) -> "GaussianStatistics":
        """Of one batch."""
        values = values.detach().double().cpu()
        if len(values) == 0:
            return cls.empty(values.shape[1])
        mean = values.mean(0)
        deviations = values - mean
        return cls(count=len(values), mean=mean, scatter=deviations.T @ deviations)

    def merge(self, other: "GaussianStatistics") -> "GaussianStatistics":
        """Of both sets together (Chan, Golub & LeVeque 1979, eq. 2.1)."""
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
        """Unbiased.

        Raises:
            ValueError: fewer than two samples.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs two samples or more, got {self.count}")
        return self.scatter / (self.count - 1)


Gaussian = GaussianStatistics | FittedGaussian
"""What a Frechet distance is between."""


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """The squared Frechet distance, as is usual; covariances may be singular.

    Raises:
        ValueError: different dimensions, or fewer than two samples on a side.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(
            f"features of {len(first.mean)} and of {len(second.mean)} dimensions have no distance"
        )
    one, other = first.covariance, second.covariance
    root = _root(one)
    # C_1^1/2 C_2 C_1^1/2 has the eigenvalues of R' C_2 R for every R with R R' = C_1, and those
    # which R' leaves out are zero.
    inner = root.T @ other @ root
    overlap, _ = _eigh((inner + inner.T) / 2)
    overlap = torch.where(overlap > _noise(overlap), overlap, 0).sqrt().sum()
    gap = (first.mean - second.mean).square().sum()
    spread = one.trace() + other.trace()
    return float(gap + spread - 2 * overlap)


def _root(covariance: Float64[Tensor, "dim dim"]) -> Float64[Tensor, "dim rank"]:
    """R with R R' = covariance and as many columns as the rank."""
    values, vectors = _eigh(covariance)
    kept = values > _noise(values)
    root = covariance.new_zeros(len(covariance), int(kept.sum()))
    root[_varies(covariance)] = vectors[:, kept] * values[kept].sqrt()
    return root


def _eigh(matrix: Float64[Tensor, "dim dim"]) -> tuple[Tensor, Tensor]:
    """Eigenvalues and vectors of the block of features that vary, values ascending.

    The others add eigenvalues of exactly 0, and with many of them LAPACK may not converge.
    """
    block = matrix[_varies(matrix)][:, _varies(matrix)]
    return torch.linalg.eigh(block)


def _varies(matrix: Float64[Tensor, "dim dim"]) -> Tensor:
    """Where a positive semi-definite matrix has other numbers than 0 in its row."""
    return matrix.diagonal() > 0


def _noise(values: Float64[Tensor, " n"]) -> float:
    """Eigenvalues up to here are zero but for rounding."""
    largest = float(values[-1]) if len(values) else 0.0
    return largest * len(values) * torch.finfo(torch.float64).eps

# SPDX-License-Identifier: Apache-2.0
"""Power-function averages of weights, and their reconstruction from stored ones.

The average of width sigma at t images weighs the weights at n images by n ** gamma:

    p(n) = (gamma + 1) n ** gamma / t ** (gamma + 1),    0 <= n <= t

(Karras et al. 2024, arXiv 2312.02696, section 3.1). A weighted sum of stored averages has the
weighted sum of their profiles, so any width is reconstructed by least squares over the profiles
(section 3.2). Unlike the paper, the weights sum to 1 here, so that weights that do not change
are reconstructed exactly. Mathematics only, in float64.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from pippin.training.averaging.config import MAX_SIGMA_REL


def gamma_of(sigma_rel: float) -> float:
    """Exponent of the profile whose standard deviation is ``sigma_rel`` of its length: the largest
    root of (gamma + 2)^2 (gamma + 3) sigma^2 = gamma + 1.

    Raises:
        ValueError: not above 0 and at most :data:`MAX_SIGMA_REL`, the width of gamma 0.
    """
    if not 0 < sigma_rel <= MAX_SIGMA_REL:
        raise ValueError(
            f"a relative width must be above 0 and at most {MAX_SIGMA_REL:.4f}, that of the plain "
            f"mean of all weights; got {sigma_rel}"
        )
    inverse = sigma_rel**-2
    roots = np.roots([1, 7, 16 - inverse, 12 - inverse])
    return max(0.0, float(roots.real.max()))


@dataclass(frozen=True)
class Profile:
    """Profile of an average."""

    gamma: float
    images: int
    """Images seen at its end, t."""


def inner_products(
    first: Sequence[Profile], second: Sequence[Profile]
) -> Float64[Tensor, "first second"]:
    """Integrals of p q over the images, for all pairs of profiles.

    For s <= t it is (a + 1) (b + 1) / (a + b + 1) (s / t) ** b / t, where the profile with the
    exponent a ends at s and that with b at t.
    """
    a, s = _columns(first)
    b, t = _columns(second)
    a, s = a[:, None], s[:, None]
    ratio = torch.minimum(s, t) / torch.maximum(s, t)
    later = torch.where(s <= t, b, a)
    return (a + 1) * (b + 1) / (a + b + 1) * ratio**later / torch.maximum(s, t)


@dataclass(frozen=True)
class Reconstruction:
    """Weights of stored averages whose sum approximates a wanted one."""

    weights: Float64[Tensor, " stored"]
    """They sum to 1; some may be negative."""
    relative_error: float
    """Distance of the reconstructed profile from the wanted one in L2, relative to the wanted
    one's norm."""


def reconstruct(stored: Sequence[Profile], wanted: Profile) -> Reconstruction:
    """Least squares over the stored profiles, with weights that sum to 1.

    Raises:
        ValueError: nothing is stored.
    """
    if not stored:
        raise ValueError("nothing to reconstruct an average from: no profile is stored")
    gram = inner_products(stored, stored)
    target = inner_products(stored, [wanted])[:, 0]
    norm = inner_products([wanted], [wanted])[0, 0]
    scale = gram.diagonal().rsqrt()  # profiles of unit length, whatever their times
    count = len(stored)
    system = torch.zeros(count + 1, count + 1, dtype=torch.float64)
    system[:count, :count] = scale[:, None] * gram * scale
    system[:count, count] = system[count, :count] = scale / scale.max()
    right = torch.cat([scale * target, 1 / scale.max()[None]])
    unknowns = torch.linalg.lstsq(system, right[:, None], driver="gelsd").solution[:count, 0]
    weights = scale * unknowns
    squared = weights @ gram @ weights - 2 * weights @ target + norm
    return Reconstruction(weights, math.sqrt(max(0.0, float(squared / norm))))


def _columns(profiles: Sequence[Profile]) -> tuple[Tensor, Tensor]:
    """Exponents and ends of profiles."""
    pairs = [(profile.gamma, float(profile.images)) for profile in profiles]
    gammas, ends = torch.tensor(pairs, dtype=torch.float64).T
    return gammas, ends

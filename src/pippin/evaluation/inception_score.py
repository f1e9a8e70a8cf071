# SPDX-License-Identifier: Apache-2.0
"""Inception score (Salimans et al. 2016, section 4), in float64.

    IS = exp(mean over x of KL(p(y | x) || p(y))),    p(y) = mean over x of p(y | x)

It needs no reference. It is 1 if the classifier predicts the same distribution for all images, and
at most the number of classes. Papers report the mean over 10 splits of the images.
"""

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

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

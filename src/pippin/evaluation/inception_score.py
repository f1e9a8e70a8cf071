# SPDX-License-Identifier: Apache-2.0
"""The Inception score (Salimans et al. 2016, section 4), in float64.

    IS = exp(mean over x of KL(p(y | x) || p(y))),    p(y) = mean over x of p(y | x)

It knows no reference: 1 where all images look alike to the classifier or like nothing it knows, at
most the number of classes. Papers give the mean over 10 parts of the images.
"""

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

SPLITS = 10
"""Parts whose scores are averaged."""
ORDER_SEED = 2020
"""Of torch-fidelity's order, which is taken so that numbers agree with its."""


def inception_scores(
    logits: Float[Tensor, "count classes"], splits: int = SPLITS
) -> Float64[Tensor, " splits"]:
    """The score of each of ``splits`` parts of the images, in the order that they have.

    Raises:
        ValueError: fewer images than parts.
    """
    count = len(logits)
    if not 1 <= splits <= count:
        raise ValueError(
            f"an Inception score over {splits} parts needs that many images; got {count}"
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
    """torch-fidelity's: so that sorted files do not make parts of one class."""
    return torch.from_numpy(np.random.RandomState(ORDER_SEED).permutation(count))

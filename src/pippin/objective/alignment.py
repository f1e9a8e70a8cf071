# SPDX-License-Identifier: Apache-2.0
"""REPA: alignment of a block's tokens with the features of an encoder."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pippin.nn.masking import gather_tokens
from pippin.nn.projector import TokenProjector
from pippin.system.device import to_device
from pippin.types import KeptTokens, Prediction

Features = Float[Tensor, "batch features rows columns"]


def normalise_over_tokens(features: Features, share: float) -> Features:
    """Spatial normalisation of iREPA: each feature loses ``share`` times its mean over the tokens
    of its image and is divided by its deviation over them (n - 1), plus 1e-6."""
    deviation, mean = torch.std_mean(features, dim=(2, 3), keepdim=True)
    return (features - share * mean) / (deviation + 1e-6)


def repa_loss(
    projected: Float[Tensor, "batch tokens features"],
    features: Features,
    kept: KeptTokens | None = None,
) -> Float[Tensor, " batch"]:
    """Negative cosine similarity of projected tokens and an encoder's features, the mean over the
    tokens of each image, in fp32 (Yu et al. 2024, arXiv 2410.06940, eq. 8).

    Args:
        projected: all tokens in raster order, or the kept ones.
        features: of all tokens.
        kept: which tokens are projected; None = all.
    """
    targets = features.float().flatten(2).transpose(1, 2)
    targets = targets if kept is None else gather_tokens(targets, kept.index)
    return -F.cosine_similarity(projected.float(), targets, dim=-1).mean(dim=1)


def alignment_loss(
    projector: TokenProjector | None,
    prediction: Prediction,
    features: Features | None,
    spatial_norm: float | None,
) -> Float[Tensor, " batch"]:
    """REPA's loss of each image.

    Args:
        projector: the model's.
        prediction: with the tokens of the aligned block.
        features: the batch's, on any device.
        spatial_norm: share of :func:`normalise_over_tokens`; None = features as they are.

    Raises:
        ValueError: no projector, tokens or features, or other numbers of them.
    """
    hidden, kept = prediction.hidden, prediction.kept
    if projector is None or hidden is None or features is None:
        raise ValueError(
            "train.repa needs a model with a projector, a denoiser that returns the tokens of "
            "its aligned block, and batches with features: got "
            f"{[x is not None for x in (projector, hidden, features)]}; build the trainer and "
            "its loader with pippin.training.train"
        )
    grid = (features.shape[2], features.shape[3])
    num_tokens = hidden.shape[1] if kept is None else kept.num_tokens
    if num_tokens != grid[0] * grid[1]:
        raise ValueError(
            f"the denoiser has {num_tokens} tokens, and the features a grid of "
            f"{grid[0]} x {grid[1]}; both must be of the same views"
        )
    features = to_device(features, hidden.device).float()
    if spatial_norm is not None:
        features = normalise_over_tokens(features, spatial_norm)
    return repa_loss(projector(hidden, grid), features, kept)

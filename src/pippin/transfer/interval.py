# SPDX-License-Identifier: Apache-2.0
"""Transfer between velocities and mean velocities (MeanFlow), equal at r = t."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pippin.nn.embeddings import INTERVAL, time_features

EMBEDDING = "conditioner.interval"
TIME_BIAS = "conditioner.time.linear_out.bias"
"""Bias that is added to every embedding of time."""


def initial_interval(name: str, initial: Tensor) -> Tensor | None:
    """Initial value of a new embedding: zeros in its last layer, so that it adds nothing yet; None
    for its other layer."""
    return torch.zeros_like(initial) if name.startswith(f"{EMBEDDING}.linear_out.") else None


def without_interval(trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights whose bias of the time embedding contains the embedding of intervals at r = t."""
    at_zero = _embedding_at_zero(trained)
    bias = trained[TIME_BIAS]
    return {**trained, TIME_BIAS: (bias.float() + at_zero).to(bias.dtype)}


def _embedding_at_zero(trained: Mapping[str, Tensor]) -> Float[Tensor, " width"]:
    """As :class:`pippin.nn.embeddings.TimeEmbedding` computes it for t - r = 0."""
    layers = {
        name: [trained[f"{EMBEDDING}.{name}.{part}"].float() for part in ("weight", "bias")]
        for name in ("linear_in", "linear_out")
    }
    num_features = layers["linear_in"][0].shape[1]
    features = time_features(INTERVAL.of(torch.zeros(1)), num_features, INTERVAL.base)
    return F.linear(F.silu(F.linear(features, *layers["linear_in"])), *layers["linear_out"])[0]

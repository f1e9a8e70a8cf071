# SPDX-License-Identifier: Apache-2.0
"""Norms over the last axis: of tokens, and of queries and keys within a head."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pippin.nn.config import NormName
from pippin.nn.initialise import Init, LayerNorm, ones

EPS = 1e-6


def layer_norm(x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
    """Layer norm without gain or bias, eps 1e-6 (DiT and its descendants)."""
    return F.layer_norm(x, x.shape[-1:], eps=EPS)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) times a learned gain, over the last axis, in fp32."""

    inits: ClassVar[dict[str, Init]] = {"gain": ones}

    def __init__(self, dim: int, eps: float = EPS) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        """Normalise; the result has the dtype of the input."""
        inverse = torch.rsqrt(x.float().square().mean(dim=-1, keepdim=True) + self.eps)
        return (x.float() * inverse * self.gain).to(x.dtype)


def token_norm(name: NormName, width: int) -> nn.Module:
    """Norm of tokens before modulation: layer norm without gain, or RMS norm with a gain."""
    if name == "rms":
        return RMSNorm(width)
    return nn.LayerNorm(width, eps=EPS, elementwise_affine=False)


class QueryKeyNorm(nn.Module):
    """Norm of queries and keys within each head (SD3; Dehghani et al. 2023).

    Args:
        name: rms, or layer norm with gain and bias.
    """

    def __init__(self, dim: int, name: NormName = "rms") -> None:
        super().__init__()
        norm = RMSNorm if name == "rms" else LayerNorm
        self.query = norm(dim)
        self.key = norm(dim)

    def forward(
        self,
        query: Float[Tensor, "batch heads queries dim"],
        key: Float[Tensor, "batch heads keys dim"],
    ) -> tuple[Float[Tensor, "batch heads queries dim"], Float[Tensor, "batch heads keys dim"]]:
        """Normalised queries and keys."""
        return self.query(query), self.key(key)


def query_key_norm(dim: int, name: NormName | bool) -> QueryKeyNorm | None:
    """Norm of queries and keys by name; True = rms, False = none."""
    if not name:
        return None
    return QueryKeyNorm(dim, "rms" if name is True else name)

# SPDX-License-Identifier: Apache-2.0
"""The published DiT in plain torch, under its published tensor names.

It is written from the paper (Peebles & Xie 2023, arXiv 2212.09748) and from the facts about the
published weights that the golden tests hold: order of the time features, row and column halves of
the position table, order of the modulation vectors and of the output values.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pippin.types import Latents, Times

TIME_FEATURES = 256
Indices = Int[Tensor, " batch"]
DROP = 0.1
"""Probability that a label is replaced by the null class in training."""


def modulate(
    x: Float[Tensor, "batch tokens dim"],
    shift: Float[Tensor, "batch dim"],
    scale: Float[Tensor, "batch dim"],
) -> Float[Tensor, "batch tokens dim"]:
    """x (1 + scale) + shift, equal for all tokens."""
    return x * (1 + scale[:, None]) + shift[:, None]


def position_table(side: int, width: int) -> Float[Tensor, "1 tokens width"]:
    """Sines and cosines of the columns, then of the rows, of a square grid."""
    frequencies = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
    place = torch.cat([angles.sin(), angles.cos()], 1)  # (side, width / 2)
    columns, rows = place.repeat(side, 1), place.repeat_interleave(side, 0)
    return torch.cat([columns, rows], 1)[None].float()


class _Norm(nn.LayerNorm):
    """Layer norm without gain and bias."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6, elementwise_affine=False)


class _Attention(nn.Module):
    """Self-attention with one linear layer for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        queries, keys, values = (
            self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        )
        attended = F.scaled_dot_product_attention(queries, keys, values)
        return self.proj(attended.transpose(1, 2).flatten(2))


class _MLP(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class _Block(nn.Module):
    """adaLN-zero block."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = _Norm(width), _Norm(width)
        self.attn = _Attention(width, heads)
        self.mlp = _MLP(width, int(width * mlp_ratio))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """(B, N, D) and the condition (B, D) -> (B, N, D)."""
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.adaLN_modulation(c).chunk(6, 1)
        x = x + gate_1[:, None] * self.attn(modulate(self.norm1(x), shift_1, scale_1))
        return x + gate_2[:, None] * self.mlp(modulate(self.norm2(x), shift_2, scale_2))


class _Output(nn.Module):
    def __init__(self, width: int, values: int) -> None:
        super().__init__()
        self.norm_final, self.linear = _Norm(width), nn.Linear(width, values)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, 1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


class _TimeEmbedder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, t: Times | Indices) -> Tensor:
        half = TIME_FEATURES // 2
        k = torch.arange(half, dtype=torch.float32, device=t.device)
        angles = t.float()[:, None] * torch.exp(-math.log(10000.0) * k / half)
        return self.mlp(torch.cat([angles.cos(), angles.sin()], 1))


class _LabelEmbedder(nn.Module):
    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.embedding_table = nn.Embedding(num_classes + 1, width)

    def forward(self, labels: Indices) -> Tensor:
        if self.training:
            dropped = torch.rand(len(labels), device=labels.device) < DROP
            labels = torch.where(dropped, self.num_classes, labels)
        return self.embedding_table(labels)


class _PatchEmbedder(nn.Module):
    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, x: Latents) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class PublishedDiT(nn.Module):
    """DiT as published, for square latents.

    Args:
        input_size: side of the latents.
        patch_size, in_channels, hidden_size, depth, num_heads, mlp_ratio, num_classes: as in the
            published class.
        learn_sigma: predict a variance too.
        recompute: store each block's input only and recompute its activations in the backward
            pass (gradient checkpointing).
    """

    def __init__(
        self,
        *,
        input_size: int,
        patch_size: int,
        in_channels: int,
        hidden_size: int,
        depth: int,
        num_heads: int,
        num_classes: int,
        mlp_ratio: float = 4.0,
        learn_sigma: bool = True,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.patch_size, self.recompute = patch_size, recompute
        out_channels = in_channels * (2 if learn_sigma else 1)
        self.x_embedder = _PatchEmbedder(in_channels, patch_size, hidden_size)
        self.t_embedder = _TimeEmbedder(hidden_size)
        self.y_embedder = _LabelEmbedder(num_classes, hidden_size)
        table = position_table(input_size // patch_size, hidden_size)
        self.pos_embed = nn.Parameter(table, requires_grad=False)
        self.blocks = nn.ModuleList(
            _Block(hidden_size, num_heads, mlp_ratio) for _ in range(depth)
        )
        self.final_layer = _Output(hidden_size, patch_size**2 * out_channels)

    def forward(self, x: Latents, t: Times | Indices, y: Indices) -> Tensor:
        """Predicted noise, and variance where learned: (B, C, H, W) -> (B, C or 2 C, H, W)."""
        side = x.shape[-1] // self.patch_size
        x = self.x_embedder(x) + self.pos_embed
        c = self.t_embedder(t) + self.y_embedder(y)
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, c, use_reentrant=False)
            else:
                x = block(x, c)
        x = self.final_layer(x, c).unflatten(1, (side, side))
        x = x.unflatten(3, (self.patch_size, self.patch_size, -1))  # (B, gh, gw, p, p, C)
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)

# SPDX-License-Identifier: Apache-2.0
"""Published DiT (Peebles & Xie 2023) in plain torch, with the tensor names of its weights.

It is what a program without pippin would run: one qkv layer, the fused attention of torch, layer
norms without gain, modulation from time and class in every block. The tests hold it to outputs of
the published code.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TIME_FEATURES = 256


class PublishedDiT(nn.Module):
    """DiT over square latents.

    Args:
        side: side of the latents.
        channels: channels of the latents.
        width, depth, num_heads: size of the transformer.
        num_classes: classes; one more row of the table is the null class.
        patch: side of a patch.
        outputs: channels of the output; twice the input's with a learned variance.
    """

    pos_embed: Tensor

    def __init__(
        self,
        *,
        side: int,
        channels: int,
        width: int,
        depth: int,
        num_heads: int,
        num_classes: int,
        patch: int = 2,
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        self.patch, self.grid, self.outputs = patch, side // patch, outputs or channels
        self.x_embedder = nn.ModuleDict({"proj": nn.Conv2d(channels, width, patch, patch)})
        self.t_embedder = nn.ModuleDict({"mlp": _time_mlp(width)})
        table = nn.Embedding(num_classes + 1, width)
        self.y_embedder = nn.ModuleDict({"embedding_table": table})
        self.register_buffer("pos_embed", positions(self.grid, width)[None])
        self.blocks = nn.ModuleList([Block(width, num_heads) for _ in range(depth)])
        self.final_layer = Final(width, patch * patch * self.outputs)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Predict from latents (batch, channels, side, side), times and classes (batch,)."""
        tokens = self.x_embedder["proj"](x).flatten(2).transpose(1, 2) + self.pos_embed
        condition = self.t_embedder["mlp"](time_features(t))
        condition = condition + self.y_embedder["embedding_table"](y)
        for block in self.blocks:
            tokens = block(tokens, condition)
        tokens = self.final_layer(tokens, condition)  # (B, N, p p C)
        grid, patch = self.grid, self.patch
        image = tokens.unflatten(2, (patch, patch, self.outputs)).unflatten(1, (grid, grid))
        return image.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


class Block(nn.Module):
    """Block with adaLN-zero."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        linear = nn.Linear
        self.attn = nn.ModuleDict({"qkv": linear(width, 3 * width), "proj": linear(width, width)})
        self.mlp = nn.ModuleDict(
            {"fc1": linear(width, 4 * width), "fc2": linear(4 * width, width)}
        )
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Attend and transform; (B, N, D) -> (B, N, D)."""
        vectors = self.adaLN_modulation(condition).chunk(6, dim=1)
        shift1, scale1, gate1, shift2, scale2, gate2 = (vector[:, None] for vector in vectors)
        x = x + gate1 * self._attention(_norm(x) * (1 + scale1) + shift1)
        hidden = self.mlp["fc1"](_norm(x) * (1 + scale2) + shift2)
        return x + gate2 * self.mlp["fc2"](F.gelu(hidden, approximate="tanh"))

    def _attention(self, x: Tensor) -> Tensor:
        heads = self.attn["qkv"](x).unflatten(2, (3, self.num_heads, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # each (B, H, N, D / H)
        return self.attn["proj"](
            F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        )


class Final(nn.Module):
    """Modulated norm and projection to patches."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, features)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Project; (B, N, D) -> (B, N, features)."""
        shift, scale = self.adaLN_modulation(condition).chunk(2, dim=1)
        return self.linear(_norm(x) * (1 + scale[:, None]) + shift[:, None])


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def _time_mlp(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width))


def time_features(t: Tensor) -> Tensor:
    """Cosines, then sines, of times and 128 frequencies from 1 down; (B,) -> (B, 256)."""
    half = TIME_FEATURES // 2
    exponents = torch.arange(half, dtype=torch.float32, device=t.device)
    frequencies = torch.exp(-math.log(10000) * exponents / half)
    angles = t[:, None].float() * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def positions(grid: int, width: int) -> Tensor:
    """Sine-cosine table (grid * grid, width): columns in the first half, rows in the second."""
    exponents = torch.arange(width // 4, dtype=torch.float64) / (width // 4)
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * 10000.0**-exponents
    line = torch.cat([angles.sin(), angles.cos()], dim=1)  # (grid, width / 2)
    columns, rows = line.repeat(grid, 1), line.repeat_interleave(grid, 0)
    return torch.cat([columns, rows], dim=1).float()

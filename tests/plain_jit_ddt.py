# SPDX-License-Identifier: Apache-2.0
"""Plain forward passes of JiT and DDT from the published tensors, written from their facts.

They share no code with pippin: norms, attention, rotation and patches are spelled out.
"""

import math

import torch


class Weights(dict):
    """Random tensors under published names; calling it applies a linear layer."""

    def __init__(self):
        super().__init__()
        self.draws = torch.Generator().manual_seed(0)

    def new(self, name, *shape, std=None, offset=0.0):
        std = math.prod(shape[1:]) ** -0.5 if std is None else std
        self[name] = offset + std * torch.randn(*shape, generator=self.draws)

    def linear(self, name, rows, *columns, bias=True):
        self.new(f"{name}.weight", rows, *columns)
        if bias:
            self.new(f"{name}.bias", rows, std=0.1)

    def gain(self, name, size):
        self.new(f"{name}.weight", size, std=0.3, offset=1.0)

    def __call__(self, name, x):
        y = x @ self[f"{name}.weight"].flatten(1).T
        return y + self[f"{name}.bias"] if f"{name}.bias" in self else y

    def rms(self, name, x):
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * self[f"{name}.weight"]


def _common(w, width, head, depth, classes, hidden, *, adaln, bias, gated):
    w.linear("t_embedder.mlp.0", width, 256)
    w.linear("t_embedder.mlp.2", width, width)
    w.new("y_embedder.embedding_table.weight", classes + 1, width, std=1.0)
    for i in range(depth):
        block = f"blocks.{i}"
        w.gain(f"{block}.norm1", width)
        w.gain(f"{block}.norm2", width)
        w.gain(f"{block}.attn.q_norm", head)
        w.gain(f"{block}.attn.k_norm", head)
        w.linear(f"{block}.attn.qkv", 3 * width, width, bias=bias)
        w.linear(f"{block}.attn.proj", width, width)
        w.linear(f"{block}.{adaln}", 6 * width, width)
        for name, rows, columns in gated(width, hidden):
            w.linear(f"{block}.mlp.{name}", rows, columns, bias=bias)
    w.linear(f"final_layer.{adaln}", 2 * width, width)


def jit_weights(*, width, heads, depth, patch, ratio, classes, bottleneck, length, side):
    w, head = Weights(), width // heads
    hidden = int(int(width * ratio) * 2 / 3)
    _common(
        *(w, width, head, depth, classes, hidden),
        adaln="adaLN_modulation.1",
        bias=True,
        gated=lambda d, h: (("w12", 2 * h, d), ("w3", d, h)),
    )
    w.linear("x_embedder.proj1", bottleneck, 3, patch, patch, bias=False)
    w.linear("x_embedder.proj2", width, bottleneck, 1, 1)
    w.gain("final_layer.norm_final", width)
    w.linear("final_layer.linear", 3 * patch**2, width)
    w["pos_embed"] = _sincos(side // patch, side // patch, width)[None]
    if length:
        w.new("in_context_posemb", 1, length, width, std=0.5)
    return w


def ddt_weights(*, width, heads, depth, patch, classes, channels):
    w, head = Weights(), width // heads
    _common(
        *(w, width, head, depth, classes, int(2 * 4 * width / 3)),
        adaln="adaLN_modulation.0",
        bias=False,
        gated=lambda d, h: (("w1", h, d), ("w3", h, d), ("w2", d, h)),
    )
    for name in ("s_embedder.proj", "x_embedder.proj"):
        w.linear(name, width, channels * patch**2)
    w.linear("final_layer.linear", channels * patch**2, width)
    return w


def jit_forward(w, x, t, y, *, heads, depth, patch, length, start):
    rows, columns = x.shape[2] // patch, x.shape[3] // patch
    width = w["t_embedder.mlp.2.bias"].numel()
    label = w["y_embedder.embedding_table.weight"][y]
    c = _silu(_time(w, t, 10000) + label)[:, None]
    patches = torch.nn.functional.unfold(x, patch, stride=patch).transpose(1, 2)
    h = w("x_embedder.proj2", w("x_embedder.proj1", patches)) + _sincos(rows, columns, width)
    row, column = torch.arange(rows).float(), torch.arange(columns).float()
    angle = _angles(row, column, width // heads)
    angles = torch.cat([angle[0], angle[1]], -1)  # row pairs, then column pairs
    for i in range(depth):
        if length and i == start:
            h = torch.cat([label[:, None] + w["in_context_posemb"], h], 1)
            angles = torch.cat([torch.zeros(length, angles.shape[1]), angles])
        six = w(f"blocks.{i}.adaLN_modulation.1", c).chunk(6, -1)
        h = _block(w, f"blocks.{i}", h, six, angles, heads, _fused_gate)
    h = h[:, length:]
    shift, scale = w("final_layer.adaLN_modulation.1", c).chunk(2, -1)
    out = w("final_layer.linear", w.rms("final_layer.norm_final", h) * (1 + scale) + shift)
    out = out.reshape(len(x), rows, columns, patch, patch, 3).permute(0, 5, 1, 3, 2, 4)
    return out.reshape(x.shape)


def ddt_forward(w, x, t, y, *, heads, depth, encoder_depth, patch):
    rows, columns = x.shape[2] // patch, x.shape[3] // patch
    width = w["t_embedder.mlp.2.bias"].numel()
    time = _time(w, t, 10)
    c = _silu(time + w["y_embedder.embedding_table.weight"][y])[:, None]
    patches = torch.nn.functional.unfold(x, patch, stride=patch).transpose(1, 2)
    axes = torch.linspace(0, 16, rows), torch.linspace(0, 16, columns)
    by_row, by_column = _angles(*axes, width // heads)
    angles = torch.stack([by_column, by_row], -1).flatten(1)

    def run(h, condition, blocks):
        for i in blocks:
            six = w(f"blocks.{i}.adaLN_modulation.0", condition).chunk(6, -1)
            h = _block(w, f"blocks.{i}", h, six, angles, heads, _apart_gate)
        return h

    s = run(w("s_embedder.proj", patches), c, range(encoder_depth))
    s = _silu(time[:, None] + s)
    h = run(w("x_embedder.proj", patches), s, range(encoder_depth, depth))
    shift, scale = w("final_layer.adaLN_modulation.0", s).chunk(2, -1)
    normed = (h - h.mean(-1, keepdim=True)) / (h.var(-1, keepdim=True, correction=0) + 1e-6).sqrt()
    out = w("final_layer.linear", normed * (1 + scale) + shift)
    fold = torch.nn.functional.fold
    return fold(out.transpose(1, 2), x.shape[2:], patch, stride=patch), s


def _block(w, name, h, six, angles, heads, gate):
    shift1, scale1, gate1, shift2, scale2, gate2 = six
    a = w.rms(f"{name}.norm1", h) * (1 + scale1) + shift1
    q, k, v = w(f"{name}.attn.qkv", a).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    q, k = (w.rms(f"{name}.attn.{n}_norm", z) for n, z in (("q", q), ("k", k)))
    q, k = _rotate(q, angles), _rotate(k, angles)
    scores = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
    h = h + gate1 * w(f"{name}.attn.proj", (scores @ v).transpose(1, 2).flatten(2))
    return h + gate2 * gate(w, f"{name}.mlp", w.rms(f"{name}.norm2", h) * (1 + scale2) + shift2)


def _fused_gate(w, name, x):
    a, b = w(f"{name}.w12", x).chunk(2, -1)
    return w(f"{name}.w3", _silu(a) * b)


def _apart_gate(w, name, x):
    return w(f"{name}.w2", _silu(w(f"{name}.w1", x)) * w(f"{name}.w3", x))


def _silu(x):
    return x * torch.sigmoid(x)


def _time(w, t, base):
    angles = t[:, None] * torch.exp(-math.log(base) * torch.arange(128) / 128)
    features = torch.cat([angles.cos(), angles.sin()], -1)
    return w("t_embedder.mlp.2", _silu(w("t_embedder.mlp.0", features)))


def _angles(row, column, head):
    """Angles by row and by column of each token, (tokens, head / 4) each."""
    speeds = 10000.0 ** (-torch.arange(head // 4) * 4 / head)
    grid = torch.cartesian_prod(row, column)
    return grid[:, :1] * speeds, grid[:, 1:] * speeds


def _rotate(x, angles):
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(turned).flatten(-2)


def _sincos(rows, columns, width):
    speeds = 10000.0 ** (-torch.arange(width // 4).double() / (width // 4))
    grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).double()
    column, row = grid[:, 1:] * speeds, grid[:, :1] * speeds
    return torch.cat([column.sin(), column.cos(), row.sin(), row.cos()], -1).float()

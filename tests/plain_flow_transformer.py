# SPDX-License-Identifier: Apache-2.0
"""Plain forward pass of SiT and LightningDiT from the published tensors, written from their facts.

It shares no code with pippin: norms, attention, rotation and patches are spelled out.
"""

import math

import torch


def new_weights(
    *,
    width=32,
    depth=2,
    heads=2,
    patch=2,
    channels=4,
    side=4,
    ratio=4.0,
    classes=3,
    swiglu=False,
    rms=False,
    qk_norm=False,
    shift=True,
    sigma=False,
    **_,
):
    """Random tensors under the published names."""
    draws = torch.Generator().manual_seed(0)
    state = {}

    def linear(name, rows, columns):
        state[f"{name}.weight"] = torch.randn(rows, columns, generator=draws) * columns**-0.5
        state[f"{name}.bias"] = 0.1 * torch.randn(rows, generator=draws)

    def gain(name, size, bias=False):
        state[f"{name}.weight"] = 1 + 0.3 * torch.randn(size, generator=draws)
        if bias:
            state[f"{name}.bias"] = 0.3 * torch.randn(size, generator=draws)

    linear("x_embedder.proj", width, channels * patch**2)
    weight = state["x_embedder.proj.weight"]
    state["x_embedder.proj.weight"] = weight.reshape(width, channels, patch, patch)
    linear("t_embedder.mlp.0", width, 256)
    linear("t_embedder.mlp.2", width, width)
    table = torch.randn(classes + 1, width, generator=draws)
    state["y_embedder.embedding_table.weight"] = table
    hidden = int(width * ratio)
    for i in range(depth):
        linear(f"blocks.{i}.attn.qkv", 3 * width, width)
        linear(f"blocks.{i}.attn.proj", width, width)
        linear(f"blocks.{i}.adaLN_modulation.1", (6 if shift else 4) * width, width)
        if swiglu:
            gated = int(2 / 3 * hidden)
            linear(f"blocks.{i}.mlp.w12", 2 * gated, width)
            linear(f"blocks.{i}.mlp.w3", width, gated)
        else:
            linear(f"blocks.{i}.mlp.fc1", hidden, width)
            linear(f"blocks.{i}.mlp.fc2", width, hidden)
        if rms:
            gain(f"blocks.{i}.norm1", width)
            gain(f"blocks.{i}.norm2", width)
        if qk_norm:
            gain(f"blocks.{i}.attn.q_norm", width // heads, bias=not rms)
            gain(f"blocks.{i}.attn.k_norm", width // heads, bias=not rms)
    if rms:
        gain("final_layer.norm_final", width)
    linear("final_layer.adaLN_modulation.1", 2 * width, width)
    linear("final_layer.linear", patch**2 * channels * (2 if sigma else 1), width)
    return state


def forward(state, x, t, y, *, heads, rope=False, swiglu=False, shift=True):
    """Velocity towards data; t from 0 = noise to 1 = data."""
    patch, channels = state["x_embedder.proj.weight"].shape[-1], x.shape[1]
    grid = x.shape[2] // patch, x.shape[3] // patch
    h = torch.nn.functional.conv2d(
        x, state["x_embedder.proj.weight"], state["x_embedder.proj.bias"], stride=patch
    )
    h = h.flatten(2).transpose(1, 2)
    h = h + sine_table(grid, h.shape[-1])
    frequencies = torch.tensor([10000 ** (-k / 128) for k in range(128)])
    angles = t[:, None] * frequencies
    c = apply(state, "t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()], dim=1))
    c = apply(state, "t_embedder.mlp.2", c * c.sigmoid())
    c = c + state["y_embedder.embedding_table.weight"][y]
    c = c * c.sigmoid()
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    for i in range(depth):
        name = f"blocks.{i}"
        vectors = list(apply(state, f"{name}.adaLN_modulation.1", c).chunk(6 if shift else 4, 1))
        if not shift:
            vectors = [torch.zeros_like(c), *vectors[:2], torch.zeros_like(c), *vectors[2:]]
        shift1, scale1, gate1, shift2, scale2, gate2 = (v[:, None] for v in vectors)
        inner = norm(state, f"{name}.norm1", h) * (1 + scale1) + shift1
        h = h + gate1 * attention(state, f"{name}.attn", inner, heads, grid if rope else None)
        inner = norm(state, f"{name}.norm2", h) * (1 + scale2) + shift2
        h = h + gate2 * mlp(state, f"{name}.mlp", inner, swiglu)
    shift1, scale1 = apply(state, "final_layer.adaLN_modulation.1", c)[:, None].chunk(2, dim=-1)
    h = norm(state, "final_layer.norm_final", h) * (1 + scale1) + shift1
    out = apply(state, "final_layer.linear", h)  # (B, N, p p C)
    images = out.reshape(len(x), *grid, patch, patch, -1)
    images = torch.einsum("nhwpqc->nchpwq", images).reshape(len(x), -1, *x.shape[2:])
    return images[:, :channels]


def apply(state, name, x):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(state, name, x):
    """RMS norm if the weights have its gain, otherwise layer norm."""
    if f"{name}.bias" in state:
        centred = x - x.mean(-1, keepdim=True)
        centred = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return centred * state[f"{name}.weight"] + state[f"{name}.bias"]
    if f"{name}.weight" in state:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * state[f"{name}.weight"]
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def mlp(state, name, x, swiglu):
    if swiglu:
        gate, value = apply(state, f"{name}.w12", x).chunk(2, dim=-1)
        return apply(state, f"{name}.w3", gate * gate.sigmoid() * value)
    x = apply(state, f"{name}.fc1", x)
    return apply(state, f"{name}.fc2", torch.nn.functional.gelu(x, approximate="tanh"))


def attention(state, name, x, heads, grid):
    batch, tokens, _ = x.shape
    q, k, v = (
        part.reshape(batch, tokens, heads, -1).transpose(1, 2)
        for part in apply(state, f"{name}.qkv", x).chunk(3, dim=-1)
    )
    if f"{name}.q_norm.weight" in state:
        q, k = norm(state, f"{name}.q_norm", q), norm(state, f"{name}.k_norm", k)
    if grid is not None:
        q, k = rotated(q, grid), rotated(k, grid)
    weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)
    return apply(state, f"{name}.proj", (weights @ v).transpose(1, 2).reshape(x.shape))


def rotated(x, grid):
    """Turn pairs of features as complex numbers: the first half by row, the second by column."""
    dim = x.shape[-1]
    frequencies = [10000 ** (-2 * k / (dim / 2)) for k in range(dim // 4)]
    angles = torch.tensor(
        [
            [position * f for position in (row, column) for f in frequencies]
            for row in range(grid[0])
            for column in range(grid[1])
        ]
    )
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(turned).flatten(-2)


def sine_table(grid, width):
    """Column first, then row; sines, then cosines."""
    quarter = width // 4
    frequencies = [10000 ** (-k / quarter) for k in range(quarter)]
    rows = [
        [
            f(position * w)
            for position in (column, row)
            for f in (math.sin, math.cos)
            for w in frequencies
        ]
        for row in range(grid[0])
        for column in range(grid[1])
    ]
    return torch.tensor(rows)

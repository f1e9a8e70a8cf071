# SPDX-License-Identifier: Apache-2.0
"""Tensors of the UNet's layers that latent diffusion and diffusers name alike."""

from collections.abc import Iterator

from pippin.denoisers.unet.config import UNetConfig
from pippin.denoisers.weights.tensor_table import Entry, Shapes, layers


def spatial_transformer(
    target: str, source: str, config: UNetConfig, shapes: Shapes
) -> Iterator[Entry]:
    """Spatial transformer, if there is one, under the names of latent diffusion and diffusers."""
    if f"{target}.norm.weight" not in shapes:
        return
    for a, b in (("norm", "norm"), ("project_in", "proj_in"), ("project_out", "proj_out")):
        yield from layers(f"{target}.{a}", f"{source}.{b}", shapes=shapes)
    for i in range(config.transformer_depth):
        block = f"{source}.transformer_blocks.{i}"
        yield from _spatial_transformer_block(f"{target}.blocks.{i}", block, shapes)


def _spatial_transformer_block(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    qkv = [f"{source}.attn1.to_{x}" for x in "qkv"]
    yield from layers(f"{target}.attention.project_in.qkv", *qkv, shapes=shapes)
    yield from layers(f"{target}.cross.query", f"{source}.attn2.to_q", shapes=shapes)
    keys = [f"{source}.attn2.to_{x}" for x in "kv"]
    yield from layers(f"{target}.cross.key_value", *keys, shapes=shapes)
    for a, b in (
        ("attention.project_out", "attn1.to_out.0"),
        ("cross.project_out", "attn2.to_out.0"),
        ("mlp.linear_in", "ff.net.0.proj"),
        ("mlp.linear_out", "ff.net.2"),
        ("norm_self", "norm1"),
        ("norm_cross", "norm2"),
        ("norm_mlp", "norm3"),
    ):
        yield from layers(f"{target}.{a}", f"{source}.{b}", shapes=shapes)

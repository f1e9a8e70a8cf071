# SPDX-License-Identifier: Apache-2.0
"""diffusers' ``DiTTransformer2DModel`` with the weights of our DiT.

It embeds time and class in every block anew, here with equal weights each time. Its time features
divide by half - 1 where the published DiT and ours divide by half; that is set right here, so that
both compute one function.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from pippin.denoisers.config import DiTConfig
from pippin.model import LatentDenoiser


def build_theirs(
    ours: LatentDenoiser, shape: DiTConfig, latent_shape: tuple[int, int, int], num_classes: int
) -> nn.Module:
    """A new model that computes what ours does.

    Args:
        ours: plain DiT, its class by modulation, without control.
        shape: of ours.
        latent_shape: (channels, side, side).
        num_classes: without the null class.
    """
    from diffusers import DiTTransformer2DModel

    channels, side, _ = latent_shape
    theirs = DiTTransformer2DModel(
        num_attention_heads=shape.num_heads,
        attention_head_dim=shape.width // shape.num_heads,
        in_channels=channels,
        out_channels=channels,
        num_layers=shape.depth,
        sample_size=side,
        patch_size=shape.patch_size,
        num_embeds_ada_norm=num_classes,
        norm_type="ada_norm_zero",
    )
    for block in blocks_of(theirs):
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    theirs.load_state_dict(_renamed(ours.state_dict(), shape, channels))
    return theirs


def blocks_of(theirs: Any) -> Iterable[Any]:
    """The repeated part."""
    return theirs.transformer_blocks.children()


def _renamed(weights: dict[str, Tensor], shape: DiTConfig, channels: int) -> dict[str, Tensor]:
    """Our weights under their names."""
    found = _of_layers(
        weights,
        {
            "pos_embed.proj": "denoiser.patches.linear",
            "proj_out_1": "denoiser.output.modulation.linear",
            "proj_out_2": "denoiser.output.linear",
        },
    )
    kernel = (channels, shape.patch_size, shape.patch_size)
    found["pos_embed.proj.weight"] = found["pos_embed.proj.weight"].unflatten(1, kernel)
    for number in range(shape.depth):
        found |= _of_block(weights, f"transformer_blocks.{number}.", f"denoiser.blocks.{number}.")
    return found


def _of_block(weights: dict[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    found = _of_layers(
        weights,
        {
            f"{theirs}norm1.emb.timestep_embedder.linear_1": "conditioner.time.linear_in",
            f"{theirs}norm1.emb.timestep_embedder.linear_2": "conditioner.time.linear_out",
            f"{theirs}norm1.linear": f"{ours}modulation.linear",
            f"{theirs}attn1.to_out.0": f"{ours}attention.project_out",
            f"{theirs}ff.net.0.proj": f"{ours}mlp.linear_in",
            f"{theirs}ff.net.2": f"{ours}mlp.linear_out",
        },
    )
    table = f"{theirs}norm1.emb.class_embedder.embedding_table.weight"
    found[table] = weights["conditioner.label_vector.weight"]
    for kind in ("weight", "bias"):
        parts = weights[f"{ours}attention.project_in.qkv.{kind}"].chunk(3)
        found |= {
            f"{theirs}attn1.to_{name}.{kind}": part
            for name, part in zip("qkv", parts, strict=True)
        }
    return found


def _of_layers(weights: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    return {
        f"{theirs}.{kind}": weights[f"{ours}.{kind}"]
        for theirs, ours in names.items()
        for kind in ("weight", "bias")
    }

# SPDX-License-Identifier: Apache-2.0
"""Tensor tables between published implementations and pippin."""

from collections.abc import Iterator

from pippin.denoisers.config import (
    DiTConfig,
    MDTv2Config,
    MMDiTConfig,
    PixArtConfig,
    UNetConfig,
)
from pippin.interop.mapping import Entry, Shapes, layers


def dit_table(config: DiTConfig, shapes: Shapes) -> Iterator[Entry]:
    """facebookresearch/DiT, class ``DiT``."""
    yield from _ends(shapes)
    for i in range(config.depth):
        yield from _adaln_block(f"denoiser.blocks.{i}", f"blocks.{i}", shapes)


def mdtv2_table(config: MDTv2Config, shapes: Shapes) -> Iterator[Entry]:
    """sail-sg/MDT, class ``MDTv2``."""
    yield from _ends(shapes)
    half = (config.depth - config.decoder_depth) // 2
    source = [
        *(f"en_inblocks.{i}" for i in range(half)),
        *(f"en_outblocks.{i}" for i in range(half)),
        *(f"de_blocks.{i}" for i in range(config.decoder_depth)),
    ]
    for i, name in enumerate(source):
        yield from _mdt_block(f"denoiser.blocks.{i}", name, shapes)
    yield Entry(target="denoiser.positions.weight", sources=("pos_embed",))
    yield Entry(target="denoiser.decoder_positions.weight", sources=("decoder_pos_embed",))
    if config.mask_ratio is not None:
        yield Entry(target="denoiser.interpolater.mask_token", sources=("mask_token",))
        yield from _mdt_block("denoiser.interpolater.block", "sideblocks.0", shapes)


def pixart_table(config: PixArtConfig, shapes: Shapes) -> Iterator[Entry]:
    """PixArt-alpha/PixArt-alpha, classes ``PixArt`` and ``PixArtMS``."""
    yield from _time_and_patches(shapes)
    caption = "conditioner.text_tokens"
    yield Entry(target=f"{caption}.null", sources=("y_embedder.y_embedding",))
    yield from _mlp(f"{caption}.projection", "y_embedder.y_proj", shapes)
    for target, source in (("size", "csize_embedder"), ("aspect", "ar_embedder")):
        yield from _perceptron(f"conditioner.image_shape.{target}", source, shapes)
    yield from layers("denoiser.shared", "t_block.1", shapes=shapes)
    for i in range(config.depth):
        target, source = f"denoiser.blocks.{i}", f"blocks.{i}"
        table = f"{source}.scale_shift_table"
        yield Entry(target=f"{target}.modulation.table", sources=(table,))
        yield from _self_attention(f"{target}.attention", f"{source}.attn", shapes)
        for a, b in (("query", "q_linear"), ("key_value", "kv_linear"), ("project_out", "proj")):
            yield from layers(f"{target}.cross.{a}", f"{source}.cross_attn.{b}", shapes=shapes)
        yield from _mlp(f"{target}.mlp", f"{source}.mlp", shapes)
    table = "final_layer.scale_shift_table"
    yield Entry(target="denoiser.output.modulation.table", sources=(table,))
    yield from layers("denoiser.output.linear", "final_layer.linear", shapes=shapes)


def mmdit_table(config: MMDiTConfig, shapes: Shapes) -> Iterator[Entry]:
    """Stability-AI/sd3-ref, class ``MMDiT``."""
    yield from _time_and_patches(shapes)
    yield from _output(shapes)
    yield from _perceptron("conditioner.text_vector", "y_embedder", shapes)
    projection = "conditioner.text_tokens.projection"
    yield from layers(projection, "context_embedder", shapes=shapes)
    yield Entry(target="denoiser.table.weight", sources=("pos_embed",))
    for i in range(config.depth):
        for target, source in (("image", "x_block"), ("context", "context_block")):
            target, source = f"denoiser.blocks.{i}.{target}", f"joint_blocks.{i}.{source}"
            yield from _modulation(f"{target}.modulation", source, shapes)
            yield from layers(f"{target}.attention_in.qkv", f"{source}.attn.qkv", shapes=shapes)
            yield from layers(f"{target}.attention_out", f"{source}.attn.proj", shapes=shapes)
            if f"{target}.mlp.linear_in.weight" in shapes:
                yield from _mlp(f"{target}.mlp", f"{source}.mlp", shapes)
            for a, b in (("query", "ln_q"), ("key", "ln_k")):
                if config.qk_norm:
                    gain = f"{target}.attention_in.norm.{a}.gain"
                    yield Entry(target=gain, sources=(f"{source}.attn.{b}.weight",))


def unet_table(config: UNetConfig, shapes: Shapes) -> Iterator[Entry]:
    """CompVis/latent-diffusion, class ``UNetModel`` with spatial transformers."""
    for target, source in (("linear_in", "time_embed.0"), ("linear_out", "time_embed.2")):
        yield from layers(f"conditioner.time.{target}", source, shapes=shapes)
    for target, source in (("conv_in", "input_blocks.0.0"), ("norm_out", "out.0")):
        yield from layers(f"denoiser.{target}", source, shapes=shapes)
    yield from layers("denoiser.conv_out", "out.2", shapes=shapes)
    top, count = len(config.channel_multiples) - 1, config.blocks_per_level
    number, index = 0, 1
    for level in range(top + 1):
        for _ in range(count):
            yield from _unet_block(number, f"input_blocks.{index}", 0, config, shapes)
            number, index = number + 1, index + 1
        if level < top:
            down = f"denoiser.down.{level}"
            yield from layers(down, f"input_blocks.{index}.0.op", shapes=shapes)
            index += 1
    yield from _unet_block(number, "middle_block", 0, config, shapes)
    yield from _unet_block(number + 1, "middle_block", 2, config, shapes)
    number, index = number + 2, 0
    for level in reversed(range(top + 1)):
        for _ in range(count + 1):
            source = f"output_blocks.{index}"
            yield from _unet_block(number, source, 0, config, shapes)
            number, index = number + 1, index + 1
        if level > 0:
            attends = 2**level in config.attention_factors
            conv = f"{source}.{2 if attends else 1}.conv"
            yield from layers(f"denoiser.up.{level - 1}", conv, shapes=shapes)


def _unet_block(
    number: int, source: str, first: int, config: UNetConfig, shapes: Shapes
) -> Iterator[Entry]:
    """Residual block at ``source.first``, and the transformer after it, if there is one."""
    target = f"denoiser.blocks.{number}"
    for a, b in (
        ("norm_in", "in_layers.0"),
        ("conv_in", "in_layers.2"),
        ("modulation", "emb_layers.1"),
        ("norm_out", "out_layers.0"),
        ("conv_out", "out_layers.3"),
        ("shortcut", "skip_connection"),
    ):
        yield from layers(f"{target}.residual.{a}", f"{source}.{first}.{b}", shapes=shapes)
    yield from spatial_transformer(
        f"{target}.transformer", f"{source}.{first + 1}", config, shapes
    )


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


def _ends(shapes: Shapes) -> Iterator[Entry]:
    """Embedders and output layer of DiT and MDTv2."""
    yield from _time_and_patches(shapes)
    yield from _output(shapes)
    table = "y_embedder.embedding_table.weight"
    yield Entry(target="conditioner.label_vector.weight", sources=(table,))


def _time_and_patches(shapes: Shapes) -> Iterator[Entry]:
    yield from layers("denoiser.patches.linear", "x_embedder.proj", shapes=shapes)
    yield from _perceptron("conditioner.time", "t_embedder", shapes)


def _output(shapes: Shapes) -> Iterator[Entry]:
    yield from _modulation("denoiser.output.modulation", "final_layer", shapes)
    yield from layers("denoiser.output.linear", "final_layer.linear", shapes=shapes)


def _perceptron(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from layers(f"{target}.linear_in", f"{source}.mlp.0", shapes=shapes)
    yield from layers(f"{target}.linear_out", f"{source}.mlp.2", shapes=shapes)


def _modulation(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from layers(f"{target}.linear", f"{source}.adaLN_modulation.1", shapes=shapes)


def _mlp(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from layers(f"{target}.linear_in", f"{source}.fc1", shapes=shapes)
    yield from layers(f"{target}.linear_out", f"{source}.fc2", shapes=shapes)


def _self_attention(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from layers(f"{target}.project_in.qkv", f"{source}.qkv", shapes=shapes)
    yield from layers(f"{target}.project_out", f"{source}.proj", shapes=shapes)


def _adaln_block(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from _modulation(f"{target}.modulation", source, shapes)
    yield from _self_attention(f"{target}.attention", f"{source}.attn", shapes)
    yield from _mlp(f"{target}.mlp", f"{source}.mlp", shapes)


def _mdt_block(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from _adaln_block(f"{target}.block", source, shapes)
    table = f"{source}.attn.rel_pos_bias.relative_position_bias_table"
    yield Entry(target=f"{target}.bias.table", sources=(table,))
    yield from layers(f"{target}.skip", f"{source}.skip_linear", shapes=shapes)

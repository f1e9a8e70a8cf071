# SPDX-License-Identifier: Apache-2.0
"""Tensor tables between diffusers' model classes and pippin."""

from collections.abc import Iterator

from pippin.denoisers.config import DiTConfig, MMDiTConfig, PixArtConfig, UNetConfig
from pippin.interop.mapping import Entry, Shapes, layers
from pippin.interop.published import spatial_transformer


def dit_table(config: DiTConfig, shapes: Shapes) -> Iterator[Entry]:
    """``DiTTransformer2DModel``, which has embedders of time and class in every block."""
    first, *others = [f"transformer_blocks.{i}.norm1.emb" for i in range(config.depth)]
    yield from layers("denoiser.patches.linear", "pos_embed.proj", shapes=shapes)
    for target, source in _PERCEPTRON:
        layer = f"timestep_embedder.{source}"
        copies = tuple(f"{name}.{layer}" for name in others)
        yield from layers(
            f"conditioner.time.{target}", f"{first}.{layer}", shapes=shapes, copies=copies
        )
    table = "class_embedder.embedding_table.weight"
    yield Entry(
        target="conditioner.label_vector.weight",
        sources=(f"{first}.{table}",),
        copies=tuple(f"{name}.{table}" for name in others),
    )
    for i in range(config.depth):
        target, source = f"denoiser.blocks.{i}", f"transformer_blocks.{i}"
        yield from layers(f"{target}.modulation.linear", f"{source}.norm1.linear", shapes=shapes)
        yield from _self_attention(f"{target}.attention", f"{source}.attn1", shapes)
        yield from _mlp(f"{target}.mlp", f"{source}.ff", shapes)
    yield from layers("denoiser.output.modulation.linear", "proj_out_1", shapes=shapes)
    yield from layers("denoiser.output.linear", "proj_out_2", shapes=shapes)


def pixart_table(config: PixArtConfig, shapes: Shapes) -> Iterator[Entry]:
    """``PixArtTransformer2DModel``."""
    yield from layers("denoiser.patches.linear", "pos_embed.proj", shapes=shapes)
    embedders = [("time", "timestep_embedder")]
    if "conditioner.image_shape.size.linear_in.weight" in shapes:
        embedders += [
            ("image_shape.size", "resolution_embedder"),
            ("image_shape.aspect", "aspect_ratio_embedder"),
        ]
    for target, source in embedders:
        yield from _perceptron(f"conditioner.{target}", f"adaln_single.emb.{source}", shapes)
    yield from _perceptron("conditioner.text_tokens.projection", "caption_projection", shapes)
    yield from layers("denoiser.shared", "adaln_single.linear", shapes=shapes)
    for i in range(config.depth):
        target, source = f"denoiser.blocks.{i}", f"transformer_blocks.{i}"
        table = f"{source}.scale_shift_table"
        yield Entry(target=f"{target}.modulation.table", sources=(table,))
        yield from _self_attention(f"{target}.attention", f"{source}.attn1", shapes)
        yield from layers(f"{target}.cross.query", f"{source}.attn2.to_q", shapes=shapes)
        keys = [f"{source}.attn2.to_{x}" for x in "kv"]
        yield from layers(f"{target}.cross.key_value", *keys, shapes=shapes)
        yield from layers(f"{target}.cross.project_out", f"{source}.attn2.to_out.0", shapes=shapes)
        yield from _mlp(f"{target}.mlp", f"{source}.ff", shapes)
    yield Entry(target="denoiser.output.modulation.table", sources=("scale_shift_table",))
    yield from layers("denoiser.output.linear", "proj_out", shapes=shapes)


def mmdit_table(config: MMDiTConfig, shapes: Shapes) -> Iterator[Entry]:
    """``SD3Transformer2DModel``, whose last norms have scale before shift."""
    yield from layers("denoiser.patches.linear", "pos_embed.proj", shapes=shapes)
    yield Entry(target="denoiser.table.weight", sources=("pos_embed.pos_embed",))
    for target, source in (("time", "timestep_embedder"), ("text_vector", "text_embedder")):
        yield from _perceptron(f"conditioner.{target}", f"time_text_embed.{source}", shapes)
    projection = "conditioner.text_tokens.projection"
    yield from layers(projection, "context_embedder", shapes=shapes)
    for i in range(config.depth):
        target, source = f"denoiser.blocks.{i}", f"transformer_blocks.{i}"
        last = i == config.depth - 1
        for stream, norm, attention, out, mlp in (
            ("image", "norm1", "to_{}", "to_out.0", "ff"),
            ("context", "norm1_context", "add_{}_proj", "to_add_out", "ff_context"),
        ):
            stream_target, is_read_only = f"{target}.{stream}", last and stream == "context"
            modulation = f"{stream_target}.modulation.linear"
            yield from layers(
                modulation, f"{source}.{norm}.linear", shapes=shapes, swapped=is_read_only
            )
            qkv = [f"{source}.attn.{attention.format(x)}" for x in "qkv"]
            yield from layers(f"{stream_target}.attention_in.qkv", *qkv, shapes=shapes)
            if not is_read_only:
                attended = f"{stream_target}.attention_out"
                yield from layers(attended, f"{source}.attn.{out}", shapes=shapes)
                yield from _mlp(f"{stream_target}.mlp", f"{source}.{mlp}", shapes)
            if config.qk_norm:
                added = "" if stream == "image" else "added_"
                for a, b in (("query", "q"), ("key", "k")):
                    gain = f"{source}.attn.norm_{added}{b}.weight"
                    yield Entry(
                        target=f"{stream_target}.attention_in.norm.{a}.gain", sources=(gain,)
                    )
    modulation = "denoiser.output.modulation.linear"
    yield from layers(modulation, "norm_out.linear", shapes=shapes, swapped=True)
    yield from layers("denoiser.output.linear", "proj_out", shapes=shapes)


def unet_table(config: UNetConfig, shapes: Shapes) -> Iterator[Entry]:
    """``UNet2DConditionModel`` with cross-attention."""
    yield from _perceptron("conditioner.time", "time_embedding", shapes)
    for target, source in (
        ("conv_in", "conv_in"),
        ("norm_out", "conv_norm_out"),
        ("conv_out", "conv_out"),
    ):
        yield from layers(f"denoiser.{target}", source, shapes=shapes)
    top, number = len(config.channel_multiples) - 1, 0
    for level in range(top + 1):
        for index in range(config.blocks_per_level):
            yield from _unet_block(number, f"down_blocks.{level}", index, config, shapes)
            number += 1
        if level < top:
            conv = f"down_blocks.{level}.downsamplers.0.conv"
            yield from layers(f"denoiser.down.{level}", conv, shapes=shapes)
    for index in range(2):
        yield from _unet_block(number, "mid_block", index, config, shapes)
        number += 1
    for level in reversed(range(top + 1)):
        source = f"up_blocks.{top - level}"
        for index in range(config.blocks_per_level + 1):
            yield from _unet_block(number, source, index, config, shapes)
            number += 1
        if level > 0:
            conv = f"{source}.upsamplers.0.conv"
            yield from layers(f"denoiser.up.{level - 1}", conv, shapes=shapes)


def _unet_block(
    number: int, source: str, index: int, config: UNetConfig, shapes: Shapes
) -> Iterator[Entry]:
    """Residual block and the transformer after it, if there is one."""
    target = f"denoiser.blocks.{number}"
    for a, b in (
        ("norm_in", "norm1"),
        ("conv_in", "conv1"),
        ("modulation", "time_emb_proj"),
        ("norm_out", "norm2"),
        ("conv_out", "conv2"),
        ("shortcut", "conv_shortcut"),
    ):
        yield from layers(f"{target}.residual.{a}", f"{source}.resnets.{index}.{b}", shapes=shapes)
    transformer = f"{source}.attentions.{index}"
    yield from spatial_transformer(f"{target}.transformer", transformer, config, shapes)


_PERCEPTRON = (("linear_in", "linear_1"), ("linear_out", "linear_2"))


def _perceptron(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    for a, b in _PERCEPTRON:
        yield from layers(f"{target}.{a}", f"{source}.{b}", shapes=shapes)


def _mlp(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from layers(f"{target}.linear_in", f"{source}.net.0.proj", shapes=shapes)
    yield from layers(f"{target}.linear_out", f"{source}.net.2", shapes=shapes)


def _self_attention(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    qkv = [f"{source}.to_{x}" for x in "qkv"]
    yield from layers(f"{target}.project_in.qkv", *qkv, shapes=shapes)
    yield from layers(f"{target}.project_out", f"{source}.to_out.0", shapes=shapes)

# SPDX-License-Identifier: Apache-2.0
"""UNet in diffusers: configuration both ways, and its tensors."""

from collections.abc import Iterator
from typing import Any

from pippin.conditioning.config import ConditioningConfig, TextSemantic
from pippin.denoisers.config import SizeName
from pippin.denoisers.unet.config import UNetConfig, unet
from pippin.denoisers.unet.layers import spatial_transformer
from pippin.denoisers.weights.arguments import (
    NO_CONTROL,
    SD_VAE,
    SD_VAE_SCALE,
    Arguments,
    ModelSpec,
)
from pippin.denoisers.weights.diffusers_layers import (
    perceptron_layers,
    require_supported,
    text_semantic,
)
from pippin.denoisers.weights.formats import DiffusersFormat
from pippin.denoisers.weights.tensor_table import Entry, Shapes, layers
from pippin.diffusion.config import DiffusionConfig


def read_unet(args: Arguments) -> ModelSpec:
    """``UNet2DConditionModel`` with cross-attention to text; Stable Diffusion's is one."""
    for name, default in _UNET_FIXED.items():
        args.require(name, default)
    args.ignore("use_linear_projection", "upcast_attention")
    channels = args.take("in_channels", 4)
    args.require("out_channels", channels)
    widths = list(args.take("block_out_channels", (320, 640, 1280, 1280)))
    down = list(args.take("down_block_types", ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)))
    known = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}
    if not set(down) <= set(known):
        raise ValueError(
            f"{args.source}: down_block_types={down} is not supported; only {' and '.join(known)}"
        )
    args.require(
        "up_block_types", *_list_or_tuple([name.replace("Down", "Up") for name in reversed(down)])
    )
    args.require("mid_block_type", "UNetMidBlock2DCrossAttn")
    if len(widths) != len(down):
        raise ValueError(
            f"{args.source}: block_out_channels={widths} and down_block_types={down} differ in "
            "length"
        )
    if any(width % widths[0] for width in widths):
        raise ValueError(
            f"{args.source}: block_out_channels={widths} is not supported; each must be a "
            "multiple of the first"
        )
    features = args.take_uniform("cross_attention_dim", 1280)
    denoiser = UNetConfig(
        channels=widths[0],
        channel_multiples=tuple(width // widths[0] for width in widths),
        blocks_per_level=args.take_uniform("layers_per_block", 2),
        attention_factors=tuple(2**i for i, name in enumerate(down) if known[name]),
        token_width=features,
        transformer_depth=args.take_uniform("transformer_layers_per_block", 1),
        norm_groups=args.take("norm_num_groups", 32),
        **_heads(args, widths),
    )
    return ModelSpec(
        denoiser=denoiser,
        conditioning=ConditioningConfig(
            semantic=TextSemantic(token_features=features, num_tokens=77, projection="none"),
            rules={"text": "attention"},
            control=NO_CONTROL,
        ),
        diffusion=DiffusionConfig(schedule="sd"),
        latent_channels=channels,
        latent_side=args.take_uniform("sample_size", None) or 64,
        latent_scale=SD_VAE_SCALE,
        autoencoder=SD_VAE if channels == 4 else None,
    )


def write_unet(model: ModelSpec) -> dict[str, Any]:
    """Arguments of ``UNet2DConditionModel``."""
    denoiser = model.denoiser
    assert isinstance(denoiser, UNetConfig)
    if isinstance(model.conditioning.semantic, TextSemantic):
        text = text_semantic(model, "none")
        require_supported(text.pooled_features is None, "conditioning.semantic.pooled_features")
    else:
        require_supported(
            model.conditioning.rules in ({"label": "attention"}, {}),
            f"conditioning.rules {model.conditioning.rules}",
        )
    widths = [denoiser.channels * multiple for multiple in denoiser.channel_multiples]
    attends = [2**level in denoiser.attention_factors for level in range(len(widths))]
    heads = denoiser.num_heads or [denoiser.heads_for(width) for width in widths]
    return {
        "sample_size": model.latent_side,
        "in_channels": model.latent_channels,
        "out_channels": model.latent_channels,
        "down_block_types": [
            "CrossAttnDownBlock2D" if has_attention else "DownBlock2D" for has_attention in attends
        ],
        "up_block_types": [
            "CrossAttnUpBlock2D" if has_attention else "UpBlock2D"
            for has_attention in attends[::-1]
        ],
        "block_out_channels": widths,
        "layers_per_block": denoiser.blocks_per_level,
        "cross_attention_dim": denoiser.token_width,
        "transformer_layers_per_block": denoiser.transformer_depth,
        # In this class the name means a number of heads.
        "attention_head_dim": heads,
        "norm_num_groups": denoiser.norm_groups,
    }


def _heads(args: Arguments, widths: list[int]) -> dict[str, Any]:
    """Number or width of heads; the class's attention_head_dim is a number of heads."""
    heads = args.take("attention_head_dim", None)
    if not isinstance(heads, (list, tuple)):
        return {"num_heads": 8 if heads is None else heads, "head_width": None}
    pairs = zip(widths, heads, strict=False)
    head_widths = {width // count for width, count in pairs if isinstance(count, int) and count}
    if len(head_widths) != 1 or len(heads) != len(widths):
        raise ValueError(
            f"{args.source}: attention_head_dim={list(heads)} is not supported; heads must have "
            "one width, or there must be one number of heads"
        )
    return {"num_heads": None, "head_width": head_widths.pop()}


def _list_or_tuple(names: list[str]) -> tuple[Any, ...]:
    """Names as JSON has them and as Python has them."""
    return names, tuple(names)


_UNET_FIXED: dict[str, Any] = {
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "only_cross_attention": False,
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "dropout": 0.0,
    "act_fn": "silu",
    "norm_eps": 1e-5,
    "reverse_transformer_layers_per_block": None,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "num_attention_heads": None,
    "dual_cross_attention": False,
    "class_embed_type": None,
    "addition_embed_type": None,
    "addition_time_embed_dim": None,
    "num_class_embeds": None,
    "resnet_time_scale_shift": "default",
    "resnet_skip_time_act": False,
    "resnet_out_scale_factor": 1.0,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
    "time_cond_proj_dim": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "projection_class_embeddings_input_dim": None,
    "attention_type": "default",
    "class_embeddings_concat": False,
    "mid_block_only_cross_attention": None,
    "cross_attention_norm": None,
    "addition_embed_type_num_heads": 64,
}
"""Arguments of which pippin supports only the class's default."""


def unet_table(config: UNetConfig, shapes: Shapes) -> Iterator[Entry]:
    """``UNet2DConditionModel`` with cross-attention."""
    yield from perceptron_layers("conditioner.time", "time_embedding", shapes)
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


def _benchmark(size: SizeName, side: int) -> tuple[UNetConfig, ConditioningConfig]:
    denoiser = unet(size)
    text = TextSemantic(token_features=denoiser.token_width, projection="none")
    conditioning = ConditioningConfig(
        semantic=text, rules={"text": "attention"}, control=NO_CONTROL
    )
    return denoiser, conditioning


DIFFUSERS = DiffusersFormat(
    name="UNet2DConditionModel",
    kind="unet",
    folder="unet",
    pipeline="StableDiffusionPipeline",
    read=read_unet,
    write=write_unet,
    table=unet_table,
    anchors=("conv_in.weight", "time_embedding.linear_1.weight"),
    benchmark=_benchmark,
)

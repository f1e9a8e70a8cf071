# SPDX-License-Identifier: Apache-2.0
"""mmDiT in diffusers: configuration both ways, and its tensors."""

from collections.abc import Iterator
from typing import Any

from pippin.conditioning.config import ConditioningConfig, TextSemantic
from pippin.denoisers.config import SizeName
from pippin.denoisers.mmdit.config import MMDiTConfig, mmdit
from pippin.denoisers.weights.arguments import (
    NO_CONTROL,
    SD3_SCALE,
    SD3_SHIFT,
    Arguments,
    ModelSpec,
)
from pippin.denoisers.weights.diffusers_layers import (
    mlp_layers,
    perceptron_layers,
    require_supported,
    text_semantic,
)
from pippin.denoisers.weights.formats import DiffusersFormat
from pippin.denoisers.weights.tensor_table import Entry, Shapes, layers
from pippin.diffusion.config import DiffusionConfig, LogitNormalTime
from pippin.types import TextFeatures


def read_mmdit(args: Arguments) -> ModelSpec:
    """``SD3Transformer2DModel``."""
    channels = args.take("in_channels", 16)
    args.require("out_channels", channels, None)
    args.require("dual_attention_layers", (), [])
    heads, head_width = args.take("num_attention_heads", 18), args.take("attention_head_dim", 64)
    args.require("caption_projection_dim", heads * head_width)
    qk_norm = args.take_choice("qk_norm", None, "rms_norm")
    return ModelSpec(
        denoiser=MMDiTConfig(
            depth=args.take("num_layers", 18),
            width=heads * head_width,
            num_heads=heads,
            patch_size=args.take("patch_size", 2),
            qk_norm=qk_norm is not None,
            table_side=args.take("pos_embed_max_size", 96),
        ),
        conditioning=ConditioningConfig(
            semantic=TextSemantic(
                token_features=args.take("joint_attention_dim", 4096),
                pooled_features=args.take("pooled_projection_dim", 2048),
                num_tokens=154,
            ),
            rules={"text": "attention", "pooled": "modulation"},
            control=NO_CONTROL,
        ),
        diffusion=DiffusionConfig(
            schedule="flow", prediction="flow", time_density=LogitNormalTime()
        ),
        latent_channels=channels,
        latent_side=args.take_uniform("sample_size", 128),
        latent_scale=SD3_SCALE,
        latent_shift=SD3_SHIFT,
    )


def write_mmdit(model: ModelSpec) -> dict[str, Any]:
    """Arguments of ``SD3Transformer2DModel``."""
    denoiser, text = model.denoiser, text_semantic(model, "linear")
    assert isinstance(denoiser, MMDiTConfig)
    require_supported(denoiser.table_side is not None, "denoiser.table_side None")
    require_supported(denoiser.mlp_ratio == 4, f"denoiser.mlp_ratio {denoiser.mlp_ratio}")
    require_supported(
        text.pooled_features is not None, "conditioning.semantic.pooled_features None"
    )
    return {
        "sample_size": model.latent_side,
        "patch_size": denoiser.patch_size,
        "in_channels": model.latent_channels,
        "out_channels": model.latent_channels,
        "num_layers": denoiser.depth,
        "attention_head_dim": denoiser.width // denoiser.num_heads,
        "num_attention_heads": denoiser.num_heads,
        "joint_attention_dim": text.token_features,
        "caption_projection_dim": denoiser.width,
        "pooled_projection_dim": text.pooled_features,
        "pos_embed_max_size": denoiser.table_side,
        "qk_norm": "rms_norm" if denoiser.qk_norm else None,
    }


def mmdit_table(config: MMDiTConfig, shapes: Shapes) -> Iterator[Entry]:
    """``SD3Transformer2DModel``, whose last norms have scale before shift."""
    yield from layers("denoiser.patches.linear", "pos_embed.proj", shapes=shapes)
    yield Entry(target="denoiser.table.weight", sources=("pos_embed.pos_embed",))
    for target, source in (("time", "timestep_embedder"), ("text_vector", "text_embedder")):
        yield from perceptron_layers(f"conditioner.{target}", f"time_text_embed.{source}", shapes)
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
                yield from mlp_layers(f"{stream_target}.mlp", f"{source}.{mlp}", shapes)
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


def _benchmark(size: SizeName, side: int) -> tuple[MMDiTConfig, ConditioningConfig]:
    text = TextSemantic(token_features=4096, pooled_features=2048, num_tokens=154)
    conditioning = ConditioningConfig(
        semantic=text,
        rules={"text": "attention", "pooled": "modulation"},
        control=NO_CONTROL,
    )
    return mmdit(size, qk_norm=False, table_side=side // 2), conditioning


def _inputs(text: TextFeatures) -> dict[str, Any]:
    return {"pooled_projections": text.pooled}


DIFFUSERS = DiffusersFormat(
    name="SD3Transformer2DModel",
    kind="mmdit",
    folder="transformer",
    pipeline="StableDiffusion3Pipeline",
    read=read_mmdit,
    write=write_mmdit,
    table=mmdit_table,
    anchors=("pos_embed.proj.weight", "norm_out.linear.weight"),
    has_qk_norm=True,
    benchmark=_benchmark,
    inputs=_inputs,
)

# SPDX-License-Identifier: Apache-2.0
"""PixArt-alpha in diffusers: configuration both ways, and its tensors."""

from collections.abc import Iterator
from typing import Any

from pippin.conditioning.config import ConditioningConfig, TextSemantic
from pippin.denoisers.config import SizeName
from pippin.denoisers.pixart.config import PixArtConfig, pixart
from pippin.denoisers.weights.arguments import NO_CONTROL, SD_VAE_SCALE, Arguments, ModelSpec
from pippin.denoisers.weights.diffusers_layers import (
    attention_layers,
    channels_and_variance,
    mlp_layers,
    perceptron_layers,
    read_transformer,
    require_supported,
    text_semantic,
    write_transformer,
)
from pippin.denoisers.weights.formats import DiffusersFormat
from pippin.denoisers.weights.tensor_table import Entry, Shapes, layers
from pippin.diffusion.config import DiffusionConfig
from pippin.types import TextFeatures


def read_pixart(args: Arguments) -> ModelSpec:
    """``PixArtTransformer2DModel``."""
    channels, learned = channels_and_variance(args, 4, 8)
    args.ignore("norm_num_groups", "num_embeds_ada_norm")
    args.require("norm_type", "ada_norm_single")
    args.require("norm_eps", 1e-6)
    args.require("attention_type", "default")
    shape = read_transformer(args, depth=28, heads=16, head_width=72)
    args.require("cross_attention_dim", shape["width"])
    side = args.take_uniform("sample_size", 128)
    scale = args.take("interpolation_scale", None)
    denoiser = PixArtConfig(
        **shape,
        base_grid=side // shape["patch_size"],
        interpolation=float(max(side // 64, 1) if scale is None else scale),
        learn_variance=learned,
    )
    image_shape = args.take("use_additional_conditions", None)
    captions = args.take("caption_channels", None)
    if captions is None:
        raise ValueError(f"{args.source}: caption_channels=None is not supported; give its width")
    return ModelSpec(
        denoiser=denoiser,
        conditioning=ConditioningConfig(
            semantic=TextSemantic(
                token_features=captions, num_tokens=120, projection="mlp", padding="mask"
            ),
            rules={"text": "attention"},
            control=NO_CONTROL,
            image_shape=side == 128 if image_shape is None else bool(image_shape),
        ),
        diffusion=DiffusionConfig(schedule="ddpm"),
        latent_channels=channels,
        latent_side=side,
        latent_scale=SD_VAE_SCALE,
    )


def write_pixart(model: ModelSpec) -> dict[str, Any]:
    """Arguments of ``PixArtTransformer2DModel``."""
    denoiser, text = model.denoiser, text_semantic(model, "mlp")
    assert isinstance(denoiser, PixArtConfig)
    require_supported(text.pooled_features is None, "conditioning.semantic.pooled_features")
    base = (denoiser.base_grid or model.latent_side // denoiser.patch_size) * denoiser.patch_size
    return {
        **write_transformer(denoiser, base),
        "in_channels": model.latent_channels,
        "out_channels": model.latent_channels * (2 if denoiser.learn_variance else 1),
        "cross_attention_dim": denoiser.width,
        "caption_channels": text.token_features,
        "use_additional_conditions": model.conditioning.image_shape,
        "interpolation_scale": denoiser.interpolation,
        "norm_type": "ada_norm_single",
        "norm_eps": 1e-6,
    }


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
        yield from perceptron_layers(f"conditioner.{target}", f"adaln_single.emb.{source}", shapes)
    yield from perceptron_layers(
        "conditioner.text_tokens.projection", "caption_projection", shapes
    )
    yield from layers("denoiser.shared", "adaln_single.linear", shapes=shapes)
    for i in range(config.depth):
        target, source = f"denoiser.blocks.{i}", f"transformer_blocks.{i}"
        table = f"{source}.scale_shift_table"
        yield Entry(target=f"{target}.modulation.table", sources=(table,))
        yield from attention_layers(f"{target}.attention", f"{source}.attn1", shapes)
        yield from layers(f"{target}.cross.query", f"{source}.attn2.to_q", shapes=shapes)
        keys = [f"{source}.attn2.to_{x}" for x in "kv"]
        yield from layers(f"{target}.cross.key_value", *keys, shapes=shapes)
        yield from layers(f"{target}.cross.project_out", f"{source}.attn2.to_out.0", shapes=shapes)
        yield from mlp_layers(f"{target}.mlp", f"{source}.ff", shapes)
    yield Entry(target="denoiser.output.modulation.table", sources=("scale_shift_table",))
    yield from layers("denoiser.output.linear", "proj_out", shapes=shapes)


def _benchmark(size: SizeName, side: int) -> tuple[PixArtConfig, ConditioningConfig]:
    text = TextSemantic(token_features=4096, num_tokens=120, projection="mlp")
    conditioning = ConditioningConfig(
        semantic=text, rules={"text": "attention"}, control=NO_CONTROL
    )
    return pixart(size, base_grid=side // 2), conditioning


def _inputs(text: TextFeatures) -> dict[str, Any]:
    return {"added_cond_kwargs": {"resolution": None, "aspect_ratio": None}}


DIFFUSERS = DiffusersFormat(
    name="PixArtTransformer2DModel",
    kind="pixart",
    folder="transformer",
    pipeline="PixArtAlphaPipeline",
    read=read_pixart,
    write=write_pixart,
    table=pixart_table,
    anchors=("pos_embed.proj.weight", "adaln_single.linear.weight"),
    has_image_shape=True,
    benchmark=_benchmark,
    inputs=_inputs,
)

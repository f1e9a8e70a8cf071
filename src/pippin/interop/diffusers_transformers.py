# SPDX-License-Identifier: Apache-2.0
"""Conversion of configurations between diffusers' transformers (DiT, PixArt, SD3) and pippin."""

from typing import Any

from pippin.conditioning.config import ConditioningConfig, TextSemantic
from pippin.denoisers.config import DiTConfig, MMDiTConfig, PixArtConfig, TransformerConfig
from pippin.diffusion.config import DiffusionConfig, LogitNormalTime
from pippin.interop.arguments import (
    BY_CLASS,
    NO_CONTROL,
    SD3_SCALE,
    SD3_SHIFT,
    SD_VAE_SCALE,
    Arguments,
    ModelSpec,
)
from pippin.interop.diffusers_checks import require_supported, text_semantic


def read_dit(args: Arguments) -> ModelSpec:
    """``DiTTransformer2DModel``."""
    channels, learned = _channels(args, 4, None)
    args.ignore("norm_num_groups")
    args.require("norm_type", "ada_norm_zero")
    args.require("norm_eps", 1e-5, 1e-6)  # the published network has 1e-6
    denoiser = DiTConfig(
        **_read_transformer(args, depth=28, heads=16, head_width=72), learn_variance=learned
    )
    return ModelSpec(
        denoiser=denoiser,
        conditioning=BY_CLASS,
        diffusion=DiffusionConfig(schedule="ddpm"),
        latent_channels=channels,
        latent_side=args.take_uniform("sample_size", 32),
        num_classes=args.take("num_embeds_ada_norm", 1000),
        latent_scale=SD_VAE_SCALE,
    )


def write_dit(model: ModelSpec) -> dict[str, Any]:
    """Arguments of ``DiTTransformer2DModel``."""
    denoiser = model.denoiser
    assert isinstance(denoiser, DiTConfig)
    require_supported(not denoiser.cross_attention, "denoiser.cross_attention")
    require_supported(denoiser.base_grid is None, f"denoiser.base_grid {denoiser.base_grid}")
    require_supported(
        model.conditioning.rules == {"label": "modulation"},
        f"conditioning.rules {model.conditioning.rules}",
    )
    return {
        **_write_transformer(denoiser, model.latent_side),
        "in_channels": model.latent_channels,
        "out_channels": model.latent_channels * (2 if denoiser.learn_variance else 1),
        "num_embeds_ada_norm": model.num_classes,
        "norm_type": "ada_norm_zero",
        "norm_eps": 1e-6,
    }


def read_pixart(args: Arguments) -> ModelSpec:
    """``PixArtTransformer2DModel``."""
    channels, learned = _channels(args, 4, 8)
    args.ignore("norm_num_groups", "num_embeds_ada_norm")
    args.require("norm_type", "ada_norm_single")
    args.require("norm_eps", 1e-6)
    args.require("attention_type", "default")
    shape = _read_transformer(args, depth=28, heads=16, head_width=72)
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
        **_write_transformer(denoiser, base),
        "in_channels": model.latent_channels,
        "out_channels": model.latent_channels * (2 if denoiser.learn_variance else 1),
        "cross_attention_dim": denoiser.width,
        "caption_channels": text.token_features,
        "use_additional_conditions": model.conditioning.image_shape,
        "interpolation_scale": denoiser.interpolation,
        "norm_type": "ada_norm_single",
        "norm_eps": 1e-6,
    }


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


def _channels(args: Arguments, default: int, default_out: int | None) -> tuple[int, bool]:
    """Latent channels, and True if there are as many for the variance."""
    channels = args.take("in_channels", default)
    out = args.take("out_channels", default_out)
    if out not in (None, channels, 2 * channels):
        raise ValueError(
            f"{args.source}: out_channels={out} is not supported; only {channels} or "
            f"{2 * channels}"
        )
    return channels, out == 2 * channels


def _read_transformer(
    args: Arguments, *, depth: int, heads: int, head_width: int
) -> dict[str, Any]:
    args.require("dropout", 0.0, 0)
    args.require("attention_bias", True)
    args.require("activation_fn", "gelu-approximate")
    args.require("norm_elementwise_affine", False)
    args.ignore("upcast_attention")
    heads = args.take("num_attention_heads", heads)
    return {
        "depth": args.take("num_layers", depth),
        "width": heads * args.take("attention_head_dim", head_width),
        "num_heads": heads,
        "patch_size": args.take("patch_size", 2),
    }


def _write_transformer(denoiser: TransformerConfig, side: int) -> dict[str, Any]:
    require_supported(denoiser.mlp_ratio == 4, f"denoiser.mlp_ratio {denoiser.mlp_ratio}")
    return {
        "num_attention_heads": denoiser.num_heads,
        "attention_head_dim": denoiser.width // denoiser.num_heads,
        "num_layers": denoiser.depth,
        "patch_size": denoiser.patch_size,
        "sample_size": side,
        "attention_bias": True,
        "activation_fn": "gelu-approximate",
    }

# SPDX-License-Identifier: Apache-2.0
"""diffusers' transformers, DiT, PixArt and SD3, as configurations of ours, and back."""

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
    Configured,
)
from pippin.interop.diffusers_refusals import refuse_unless, text_of


def of_dit(a: Arguments) -> Configured:
    """``DiTTransformer2DModel``."""
    channels, learned = _channels(a, 4, None)
    a.ignore("norm_num_groups")
    a.only("norm_type", "ada_norm_zero")
    a.only("norm_eps", 1e-5, 1e-6)  # the published network has 1e-6
    denoiser = DiTConfig(
        **_transformer(a, depth=28, heads=16, head_width=72), learn_variance=learned
    )
    return Configured(
        denoiser=denoiser,
        conditioning=BY_CLASS,
        diffusion=DiffusionConfig(schedule="ddpm"),
        latent_channels=channels,
        latent_side=a.take_one("sample_size", 32),
        num_classes=a.take("num_embeds_ada_norm", 1000),
        latent_scale=SD_VAE_SCALE,
    )


def from_dit(model: Configured) -> dict[str, Any]:
    """The arguments of ``DiTTransformer2DModel``."""
    denoiser = model.denoiser
    assert isinstance(denoiser, DiTConfig)
    refuse_unless(not denoiser.cross_attention, "denoiser.cross_attention")
    refuse_unless(denoiser.base_grid is None, f"denoiser.base_grid {denoiser.base_grid}")
    refuse_unless(
        model.conditioning.rules == {"label": "modulation"},
        f"conditioning.rules {model.conditioning.rules}",
    )
    return {
        **_of_transformer(denoiser, model.latent_side),
        "in_channels": model.latent_channels,
        "out_channels": model.latent_channels * (2 if denoiser.learn_variance else 1),
        "num_embeds_ada_norm": model.num_classes,
        "norm_type": "ada_norm_zero",
        "norm_eps": 1e-6,
    }


def of_pixart(a: Arguments) -> Configured:
    """``PixArtTransformer2DModel``."""
    channels, learned = _channels(a, 4, 8)
    a.ignore("norm_num_groups", "num_embeds_ada_norm")
    a.only("norm_type", "ada_norm_single")
    a.only("norm_eps", 1e-6)
    a.only("attention_type", "default")
    shape = _transformer(a, depth=28, heads=16, head_width=72)
    a.only("cross_attention_dim", shape["width"])
    side = a.take_one("sample_size", 128)
    scale = a.take("interpolation_scale", None)
    denoiser = PixArtConfig(
        **shape,
        base_grid=side // shape["patch_size"],
        interpolation=float(max(side // 64, 1) if scale is None else scale),
        learn_variance=learned,
    )
    image_shape = a.take("use_additional_conditions", None)
    captions = a.take("caption_channels", None)
    if captions is None:
        raise ValueError(f"{a.source}: caption_channels=None is not supported; give its width")
    return Configured(
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


def from_pixart(model: Configured) -> dict[str, Any]:
    """The arguments of ``PixArtTransformer2DModel``."""
    denoiser, text = model.denoiser, text_of(model, "mlp")
    assert isinstance(denoiser, PixArtConfig)
    refuse_unless(text.pooled_features is None, "conditioning.semantic.pooled_features")
    base = (denoiser.base_grid or model.latent_side // denoiser.patch_size) * denoiser.patch_size
    return {
        **_of_transformer(denoiser, base),
        "in_channels": model.latent_channels,
        "out_channels": model.latent_channels * (2 if denoiser.learn_variance else 1),
        "cross_attention_dim": denoiser.width,
        "caption_channels": text.token_features,
        "use_additional_conditions": model.conditioning.image_shape,
        "interpolation_scale": denoiser.interpolation,
        "norm_type": "ada_norm_single",
        "norm_eps": 1e-6,
    }


def of_mmdit(a: Arguments) -> Configured:
    """``SD3Transformer2DModel``."""
    channels = a.take("in_channels", 16)
    a.only("out_channels", channels, None)
    a.only("dual_attention_layers", (), [])
    heads, head_width = a.take("num_attention_heads", 18), a.take("attention_head_dim", 64)
    a.only("caption_projection_dim", heads * head_width)
    qk_norm = a.one_of("qk_norm", None, "rms_norm")
    return Configured(
        denoiser=MMDiTConfig(
            depth=a.take("num_layers", 18),
            width=heads * head_width,
            num_heads=heads,
            patch_size=a.take("patch_size", 2),
            qk_norm=qk_norm is not None,
            table_side=a.take("pos_embed_max_size", 96),
        ),
        conditioning=ConditioningConfig(
            semantic=TextSemantic(
                token_features=a.take("joint_attention_dim", 4096),
                pooled_features=a.take("pooled_projection_dim", 2048),
                num_tokens=154,
            ),
            rules={"text": "attention", "pooled": "modulation"},
            control=NO_CONTROL,
        ),
        diffusion=DiffusionConfig(
            schedule="flow", prediction="flow", time_density=LogitNormalTime()
        ),
        latent_channels=channels,
        latent_side=a.take_one("sample_size", 128),
        latent_scale=SD3_SCALE,
        latent_shift=SD3_SHIFT,
    )


def from_mmdit(model: Configured) -> dict[str, Any]:
    """The arguments of ``SD3Transformer2DModel``."""
    denoiser, text = model.denoiser, text_of(model, "linear")
    assert isinstance(denoiser, MMDiTConfig)
    refuse_unless(denoiser.table_side is not None, "denoiser.table_side None")
    refuse_unless(denoiser.mlp_ratio == 4, f"denoiser.mlp_ratio {denoiser.mlp_ratio}")
    refuse_unless(text.pooled_features is not None, "conditioning.semantic.pooled_features None")
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


def _channels(a: Arguments, default: int, default_out: int | None) -> tuple[int, bool]:
    """Latent channels, and whether as many come for the variance."""
    channels = a.take("in_channels", default)
    out = a.take("out_channels", default_out)
    if out not in (None, channels, 2 * channels):
        raise ValueError(
            f"{a.source}: out_channels={out} is not supported; only {channels} or {2 * channels}"
        )
    return channels, out == 2 * channels


def _transformer(a: Arguments, *, depth: int, heads: int, head_width: int) -> dict[str, Any]:
    a.only("dropout", 0.0, 0)
    a.only("attention_bias", True)
    a.only("activation_fn", "gelu-approximate")
    a.only("norm_elementwise_affine", False)
    a.ignore("upcast_attention")
    heads = a.take("num_attention_heads", heads)
    return {
        "depth": a.take("num_layers", depth),
        "width": heads * a.take("attention_head_dim", head_width),
        "num_heads": heads,
        "patch_size": a.take("patch_size", 2),
    }


def _of_transformer(denoiser: TransformerConfig, side: int) -> dict[str, Any]:
    refuse_unless(denoiser.mlp_ratio == 4, f"denoiser.mlp_ratio {denoiser.mlp_ratio}")
    return {
        "num_attention_heads": denoiser.num_heads,
        "attention_head_dim": denoiser.width // denoiser.num_heads,
        "num_layers": denoiser.depth,
        "patch_size": denoiser.patch_size,
        "sample_size": side,
        "attention_bias": True,
        "activation_fn": "gelu-approximate",
    }

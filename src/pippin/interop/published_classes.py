# SPDX-License-Identifier: Apache-2.0
"""The published classes: what their constructor arguments make, as configurations of ours."""

from collections.abc import Callable, Mapping
from typing import Any

from pippin.conditioning.config import ConditioningConfig, TextSemantic
from pippin.denoisers.config import (
    DenoiserConfig,
    DiTConfig,
    MDTv2Config,
    MMDiTConfig,
    PixArtConfig,
    UNetConfig,
)
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

XL_WIDTH = 1152
"""The published classes' default, which has 16 heads."""
UNUSED_SIDE = 32
"""``image_size`` in the configurations of Stable Diffusion, whose latents have 64 a side."""
SD_CONTEXTS = (768, 1024)
"""Widths of Stable Diffusion's captions, 1 and 2."""
SIDE_NOTE = (
    f"image_size={UNUSED_SIDE} of Stable Diffusion's configurations is read by nobody: latents of "
    "64 a side (512 pixels) are taken; `pippin sample --size HxW` draws others"
)


SD2_NOTE = (
    "Stable Diffusion 2, whose captions are 1024 wide, has models of two processes with the same "
    "tensors: those of 768 pixels predict v (--prediction v), those of 512 eps"
)


def of_dit(a: Arguments) -> Configured:
    """facebookresearch/DiT; its defaults are those of XL/2."""
    a.ignore("class_dropout_prob")
    denoiser = DiTConfig(**_transformer(a), learn_variance=a.take("learn_sigma", True))
    return _of_classes(a, denoiser, a.take("input_size", 32))


def of_mdtv2(a: Arguments) -> Configured:
    """sail-sg/MDT, second version."""
    a.ignore("class_dropout_prob")
    shape = _transformer(a)
    side = a.take("input_size", 32)
    grid = side // shape["patch_size"]
    denoiser = MDTv2Config(
        **shape,
        grid=(grid, grid),
        decoder_depth=a.take("decode_layer", 4),
        mask_ratio=a.take("mask_ratio", None),
        learn_variance=a.take("learn_sigma", True),
    )
    return _of_classes(a, denoiser, side)


def _of_classes(a: Arguments, denoiser: DenoiserConfig, side: int) -> Configured:
    return Configured(
        denoiser=denoiser,
        conditioning=BY_CLASS,
        diffusion=DiffusionConfig(schedule="ddpm"),
        latent_channels=a.take("in_channels", 4),
        latent_side=side,
        num_classes=a.take("num_classes", 1000),
        latent_scale=SD_VAE_SCALE,
    )


def of_pixart(a: Arguments) -> Configured:
    """PixArt-alpha of one resolution."""
    return _pixart(a, image_shape=False)


def of_pixart_ms(a: Arguments) -> Configured:
    """PixArt-alpha of many shapes, which it is told."""
    return _pixart(a, image_shape=True)


def _pixart(a: Arguments, *, image_shape: bool) -> Configured:
    a.ignore("class_dropout_prob", "config")
    a.only("drop_path", 0.0)
    a.only("window_size", 0)
    a.only("window_block_indexes", None, [], ())
    a.only("use_rel_pos", False)
    shape, side = _transformer(a), a.take("input_size", 32)
    denoiser = PixArtConfig(
        **shape,
        base_grid=side // shape["patch_size"],
        interpolation=a.take("lewei_scale", 1.0),
        learn_variance=a.take("pred_sigma", True),
    )
    semantic = TextSemantic(
        token_features=a.take("caption_channels", 4096),
        num_tokens=a.take("model_max_length", 120),
        projection="mlp",
        padding="mask",
    )
    conditioning = ConditioningConfig(
        semantic=semantic,
        rules={"text": "attention"},
        control=NO_CONTROL,
        image_shape=image_shape,
    )
    return Configured(
        denoiser=denoiser,
        conditioning=conditioning,
        diffusion=DiffusionConfig(schedule="ddpm"),
        latent_channels=a.take("in_channels", 4),
        latent_side=side,
        latent_scale=SD_VAE_SCALE,
    )


def of_mmdit_sd3(a: Arguments) -> Configured:
    """sd3-ref; its width is 64 times its depth, and it has as many heads as blocks."""
    a.ignore("num_patches", "attn_mode", "device", "dtype", "verbose")
    a.only("register_length", 0)
    a.only("learn_sigma", False)
    a.only("rmsnorm", False)
    a.only("scale_mod_only", False)
    a.only("swiglu", False)
    a.only("qkv_bias", True)
    a.only("pos_embed_scaling_factor", None)
    a.only("pos_embed_offset", None)
    depth, channels = a.take("depth", 28), a.take("in_channels", 4)
    a.only("out_channels", None, channels)
    qk_norm = a.one_of("qk_norm", None, "rms")
    denoiser = MMDiTConfig(
        depth=depth,
        width=a.take("hidden_size", 64 * depth),
        num_heads=a.take("num_heads", depth),
        patch_size=a.take("patch_size", 2),
        mlp_ratio=a.take("mlp_ratio", 4.0),
        qk_norm=qk_norm == "rms",
        table_side=a.take("pos_embed_max_size", None),
    )
    context = a.take("context_embedder_config", None)
    features = _linear_features(context)
    if features is None:
        raise ValueError(
            f"{a.source}: context_embedder_config={context!r} is not supported; only a "
            "torch.nn.Linear with its in_features"
        )
    if denoiser.table_side is None:
        raise ValueError(f"{a.source}: pos_embed_max_size=None is not supported; give its side")
    pooled = a.take("adm_in_channels", None)
    semantic = TextSemantic(
        token_features=features,
        pooled_features=pooled,
        num_tokens=154,  # CLIP's 77 and T5's 77
        projection="linear",
    )
    rules: Any = {"text": "attention"} | ({} if pooled is None else {"pooled": "modulation"})
    return Configured(
        denoiser=denoiser,
        conditioning=ConditioningConfig(semantic=semantic, rules=rules, control=NO_CONTROL),
        diffusion=DiffusionConfig(
            schedule="flow", prediction="flow", time_density=LogitNormalTime()
        ),
        latent_channels=channels,
        latent_side=a.take("input_size", None) or 128,
        latent_scale=SD3_SCALE,
        latent_shift=SD3_SHIFT,
    )


def _linear_features(config: Any) -> int | None:
    """The width that a torch.nn.Linear reads, from how configurations of that code name one."""
    match config:
        case {"target": "torch.nn.Linear", "params": {"in_features": int(features)}}:
            return features
    return None


def of_ldm_unet(a: Arguments) -> Configured:
    """CompVis/latent-diffusion, with spatial transformers.

    Latents of 3 channels are those of its f4 models, which have a schedule of their own and whose
    released configurations scale nothing; 4 channels are Stable Diffusion's.
    """
    a.ignore("use_checkpoint", "use_fp16", "legacy")
    a.only("use_spatial_transformer", True)
    a.only("dims", 2)
    a.only("conv_resample", True)
    a.only("dropout", 0.0, 0)
    a.only("num_classes", None)
    a.only("n_embed", None)
    a.only("num_heads_upsample", -1)
    a.only("use_scale_shift_norm", False)
    a.only("resblock_updown", False)
    a.only("use_new_attention_order", False)
    channels = a.take("in_channels", 4)
    a.only("out_channels", channels)
    head_width = a.take("num_head_channels", -1)
    heads = a.take("num_heads", -1)
    context = a.take_one("context_dim", None)
    if not isinstance(context, int):
        raise ValueError(f"{a.source}: context_dim={context!r} is not supported; give its width")
    denoiser = UNetConfig(
        channels=a.take("model_channels", 320),
        channel_multiples=tuple(a.take("channel_mult", (1, 2, 4, 8))),
        blocks_per_level=a.take("num_res_blocks", 2),
        attention_factors=tuple(a.take("attention_resolutions", (4, 2, 1))),
        token_width=context,
        num_heads=heads if head_width == -1 else None,
        head_width=None if head_width == -1 else head_width,
        transformer_depth=a.take("transformer_depth", 1),
        norm_groups=a.take("group_norm_groups", 32),
    )
    semantic = TextSemantic(token_features=context, num_tokens=77, projection="none")
    side, notes = a.take("image_size", 64), tuple[str, ...]()
    if (channels, side) == (4, UNUSED_SIDE) and context in SD_CONTEXTS:
        side, notes = 64, (SIDE_NOTE,)
    if (channels, context) == (4, SD_CONTEXTS[1]):
        notes = (*notes, SD2_NOTE)
    return Configured(
        denoiser=denoiser,
        conditioning=ConditioningConfig(
            semantic=semantic, rules={"text": "attention"}, control=NO_CONTROL
        ),
        diffusion=DiffusionConfig(schedule="ldm-f4" if channels == 3 else "sd"),
        latent_channels=channels,
        latent_side=side,
        latent_scale=1.0 if channels == 3 else SD_VAE_SCALE,
        notes=notes,
    )


SOURCES: dict[str, Callable[[Arguments], Configured]] = {
    "dit": of_dit,
    "mdtv2": of_mdtv2,
    "pixart": of_pixart,
    "pixart_ms": of_pixart_ms,
    "mmdit_sd3": of_mmdit_sd3,
    "ldm_unet": of_ldm_unet,
}


def configure(source: str, given: Mapping[str, Any]) -> Configured:
    """Our configuration of a published model.

    Raises:
        ValueError: an unknown source or argument, or a value that we do not support; it is named.
    """
    if source not in SOURCES:
        raise ValueError(f"no source {source!r}; there are: {', '.join(SOURCES)}")
    arguments = Arguments(source, given)
    found = SOURCES[source](arguments)
    arguments.done()
    return found


def _transformer(a: Arguments) -> dict[str, Any]:
    heads_given = a.gives("num_heads")
    width = a.take("hidden_size", XL_WIDTH)
    if width != XL_WIDTH and not heads_given:
        raise ValueError(
            f"{a.source}: hidden_size={width} without num_heads: weights do not say how many "
            "heads there are; give num_heads too (S 6, B 12, L and XL 16)"
        )
    return {
        "depth": a.take("depth", 28),
        "width": width,
        "num_heads": a.take("num_heads", 16),
        "patch_size": a.take("patch_size", 2),
        "mlp_ratio": a.take("mlp_ratio", 4.0),
    }

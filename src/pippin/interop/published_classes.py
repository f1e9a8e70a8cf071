# SPDX-License-Identifier: Apache-2.0
"""Pippin's configurations for the constructor arguments of published classes."""

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
    ModelSpec,
)

XL_WIDTH = 1152
"""Default width of the published classes, with 16 heads."""
UNUSED_SIDE = 32
"""``image_size`` in the configurations of Stable Diffusion, whose latents are 64 x 64."""
SD_CONTEXTS = (768, 1024)
"""Caption widths of Stable Diffusion 1 and 2."""
SIDE_NOTE = (
    f"image_size={UNUSED_SIDE} of Stable Diffusion's configurations is unused: assuming latents "
    "of 64 x 64 (512 pixels); `pippin sample --size HxW` samples other sizes"
)


SD2_NOTE = (
    "Stable Diffusion 2, whose captions are 1024 wide, has models of two processes with the same "
    "tensors: those of 768 pixels predict v (--prediction v), those of 512 eps"
)


def read_dit(args: Arguments) -> ModelSpec:
    """facebookresearch/DiT, with the defaults of XL/2."""
    args.ignore("class_dropout_prob")
    denoiser = DiTConfig(**_transformer(args), learn_variance=args.take("learn_sigma", True))
    return _class_conditional(args, denoiser, args.take("input_size", 32))


def read_mdtv2(args: Arguments) -> ModelSpec:
    """sail-sg/MDT, second version."""
    args.ignore("class_dropout_prob")
    shape = _transformer(args)
    side = args.take("input_size", 32)
    grid = side // shape["patch_size"]
    denoiser = MDTv2Config(
        **shape,
        grid=(grid, grid),
        decoder_depth=args.take("decode_layer", 4),
        mask_ratio=args.take("mask_ratio", None),
        learn_variance=args.take("learn_sigma", True),
    )
    return _class_conditional(args, denoiser, side)


def _class_conditional(args: Arguments, denoiser: DenoiserConfig, side: int) -> ModelSpec:
    return ModelSpec(
        denoiser=denoiser,
        conditioning=BY_CLASS,
        diffusion=DiffusionConfig(schedule="ddpm"),
        latent_channels=args.take("in_channels", 4),
        latent_side=side,
        num_classes=args.take("num_classes", 1000),
        latent_scale=SD_VAE_SCALE,
    )


def read_pixart(args: Arguments) -> ModelSpec:
    """PixArt-alpha for one resolution."""
    return _pixart(args, image_shape=False)


def read_pixart_ms(args: Arguments) -> ModelSpec:
    """PixArt-alpha for many image shapes, which are conditions."""
    return _pixart(args, image_shape=True)


def _pixart(args: Arguments, *, image_shape: bool) -> ModelSpec:
    args.ignore("class_dropout_prob", "config")
    args.require("drop_path", 0.0)
    args.require("window_size", 0)
    args.require("window_block_indexes", None, [], ())
    args.require("use_rel_pos", False)
    shape, side = _transformer(args), args.take("input_size", 32)
    denoiser = PixArtConfig(
        **shape,
        base_grid=side // shape["patch_size"],
        interpolation=args.take("lewei_scale", 1.0),
        learn_variance=args.take("pred_sigma", True),
    )
    semantic = TextSemantic(
        token_features=args.take("caption_channels", 4096),
        num_tokens=args.take("model_max_length", 120),
        projection="mlp",
        padding="mask",
    )
    conditioning = ConditioningConfig(
        semantic=semantic,
        rules={"text": "attention"},
        control=NO_CONTROL,
        image_shape=image_shape,
    )
    return ModelSpec(
        denoiser=denoiser,
        conditioning=conditioning,
        diffusion=DiffusionConfig(schedule="ddpm"),
        latent_channels=args.take("in_channels", 4),
        latent_side=side,
        latent_scale=SD_VAE_SCALE,
    )


def read_mmdit_sd3(args: Arguments) -> ModelSpec:
    """sd3-ref, whose width is 64 times its depth, with as many heads as blocks."""
    args.ignore("num_patches", "attn_mode", "device", "dtype", "verbose")
    args.require("register_length", 0)
    args.require("learn_sigma", False)
    args.require("rmsnorm", False)
    args.require("scale_mod_only", False)
    args.require("swiglu", False)
    args.require("qkv_bias", True)
    args.require("pos_embed_scaling_factor", None)
    args.require("pos_embed_offset", None)
    depth, channels = args.take("depth", 28), args.take("in_channels", 4)
    args.require("out_channels", None, channels)
    qk_norm = args.take_choice("qk_norm", None, "rms")
    denoiser = MMDiTConfig(
        depth=depth,
        width=args.take("hidden_size", 64 * depth),
        num_heads=args.take("num_heads", depth),
        patch_size=args.take("patch_size", 2),
        mlp_ratio=args.take("mlp_ratio", 4.0),
        qk_norm=qk_norm == "rms",
        table_side=args.take("pos_embed_max_size", None),
    )
    context = args.take("context_embedder_config", None)
    features = _linear_features(context)
    if features is None:
        raise ValueError(
            f"{args.source}: context_embedder_config={context!r} is not supported; only a "
            "torch.nn.Linear with its in_features"
        )
    if denoiser.table_side is None:
        raise ValueError(f"{args.source}: pos_embed_max_size=None is not supported; give its side")
    pooled = args.take("adm_in_channels", None)
    semantic = TextSemantic(
        token_features=features,
        pooled_features=pooled,
        num_tokens=154,  # CLIP's 77 and T5's 77
        projection="linear",
    )
    rules: Any = {"text": "attention"} | ({} if pooled is None else {"pooled": "modulation"})
    return ModelSpec(
        denoiser=denoiser,
        conditioning=ConditioningConfig(semantic=semantic, rules=rules, control=NO_CONTROL),
        diffusion=DiffusionConfig(
            schedule="flow", prediction="flow", time_density=LogitNormalTime()
        ),
        latent_channels=channels,
        latent_side=args.take("input_size", None) or 128,
        latent_scale=SD3_SCALE,
        latent_shift=SD3_SHIFT,
    )


def _linear_features(config: Any) -> int | None:
    """Input width of a torch.nn.Linear in the configuration format of sd3-ref."""
    match config:
        case {"target": "torch.nn.Linear", "params": {"in_features": int(features)}}:
            return features
    return None


def read_ldm_unet(args: Arguments) -> ModelSpec:
    """CompVis/latent-diffusion, with spatial transformers.

    Latents of 3 channels belong to its f4 models, which have their own schedule and no latent
    scale; 4 channels belong to Stable Diffusion.
    """
    args.ignore("use_checkpoint", "use_fp16", "legacy")
    args.require("use_spatial_transformer", True)
    args.require("dims", 2)
    args.require("conv_resample", True)
    args.require("dropout", 0.0, 0)
    args.require("num_classes", None)
    args.require("n_embed", None)
    args.require("num_heads_upsample", -1)
    args.require("use_scale_shift_norm", False)
    args.require("resblock_updown", False)
    args.require("use_new_attention_order", False)
    channels = args.take("in_channels", 4)
    args.require("out_channels", channels)
    head_width = args.take("num_head_channels", -1)
    heads = args.take("num_heads", -1)
    context = args.take_uniform("context_dim", None)
    if not isinstance(context, int):
        raise ValueError(
            f"{args.source}: context_dim={context!r} is not supported; give its width"
        )
    denoiser = UNetConfig(
        channels=args.take("model_channels", 320),
        channel_multiples=tuple(args.take("channel_mult", (1, 2, 4, 8))),
        blocks_per_level=args.take("num_res_blocks", 2),
        attention_factors=tuple(args.take("attention_resolutions", (4, 2, 1))),
        token_width=context,
        num_heads=heads if head_width == -1 else None,
        head_width=None if head_width == -1 else head_width,
        transformer_depth=args.take("transformer_depth", 1),
        norm_groups=args.take("group_norm_groups", 32),
    )
    semantic = TextSemantic(token_features=context, num_tokens=77, projection="none")
    side, notes = args.take("image_size", 64), tuple[str, ...]()
    if (channels, side) == (4, UNUSED_SIDE) and context in SD_CONTEXTS:
        side, notes = 64, (SIDE_NOTE,)
    if (channels, context) == (4, SD_CONTEXTS[1]):
        notes = (*notes, SD2_NOTE)
    return ModelSpec(
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


SOURCES: dict[str, Callable[[Arguments], ModelSpec]] = {
    "dit": read_dit,
    "mdtv2": read_mdtv2,
    "pixart": read_pixart,
    "pixart_ms": read_pixart_ms,
    "mmdit_sd3": read_mmdit_sd3,
    "ldm_unet": read_ldm_unet,
}


def configure(source: str, settings: Mapping[str, Any]) -> ModelSpec:
    """Pippin's description of a published model.

    Raises:
        ValueError: an unknown source or argument, or an unsupported value; it is named.
    """
    if source not in SOURCES:
        raise ValueError(f"no source {source!r}; there are: {', '.join(SOURCES)}")
    arguments = Arguments(source, settings)
    spec = SOURCES[source](arguments)
    arguments.check_all_used()
    return spec


def _transformer(args: Arguments) -> dict[str, Any]:
    heads_given = args.has("num_heads")
    width = args.take("hidden_size", XL_WIDTH)
    if width != XL_WIDTH and not heads_given:
        raise ValueError(
            f"{args.source}: hidden_size={width} without num_heads: weights do not contain the "
            "number of heads; give num_heads too (S 6, B 12, L and XL 16)"
        )
    return {
        "depth": args.take("depth", 28),
        "width": width,
        "num_heads": args.take("num_heads", 16),
        "patch_size": args.take("patch_size", 2),
        "mlp_ratio": args.take("mlp_ratio", 4.0),
    }

# SPDX-License-Identifier: Apache-2.0
"""Configurations of diffusers' model classes as ours, and back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pippin.conditioning.config import ConditioningConfig, TextSemantic
from pippin.config import ConfigError
from pippin.denoisers.config import (
    DiTConfig,
    MMDiTConfig,
    PixArtConfig,
    TransformerConfig,
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
from pippin.interop.diffusers_schedulers import of_scheduler


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
    _refuse_unless(not denoiser.cross_attention, "denoiser.cross_attention")
    _refuse_unless(
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
            semantic=TextSemantic(token_features=captions, num_tokens=120, projection="mlp"),
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
    denoiser, text = model.denoiser, _text(model, "mlp")
    assert isinstance(denoiser, PixArtConfig)
    _refuse_unless(text.pooled_features is None, "conditioning.semantic.pooled_features")
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
    denoiser, text = model.denoiser, _text(model, "linear")
    assert isinstance(denoiser, MMDiTConfig)
    _refuse_unless(denoiser.table_side is not None, "denoiser.table_side None")
    _refuse_unless(denoiser.mlp_ratio == 4, f"denoiser.mlp_ratio {denoiser.mlp_ratio}")
    _refuse_unless(text.pooled_features is not None, "conditioning.semantic.pooled_features None")
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


def of_unet(a: Arguments) -> Configured:
    """``UNet2DConditionModel`` with cross-attention to text; Stable Diffusion's is one."""
    for name, default in _UNET_FIXED.items():
        a.only(name, default)
    a.ignore("use_linear_projection", "upcast_attention")
    channels = a.take("in_channels", 4)
    a.only("out_channels", channels)
    widths = list(a.take("block_out_channels", (320, 640, 1280, 1280)))
    down = list(a.take("down_block_types", ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)))
    known = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}
    if not set(down) <= set(known):
        raise ValueError(
            f"{a.source}: down_block_types={down} is not supported; only {' and '.join(known)}"
        )
    a.only("up_block_types", *_both([name.replace("Down", "Up") for name in reversed(down)]))
    a.only("mid_block_type", "UNetMidBlock2DCrossAttn")
    if len(widths) != len(down):
        raise ValueError(
            f"{a.source}: block_out_channels={widths} and down_block_types={down} differ in length"
        )
    if any(width % widths[0] for width in widths):
        raise ValueError(
            f"{a.source}: block_out_channels={widths} is not supported; each must be a multiple "
            "of the first"
        )
    features = a.take_one("cross_attention_dim", 1280)
    denoiser = UNetConfig(
        channels=widths[0],
        channel_multiples=tuple(width // widths[0] for width in widths),
        blocks_per_level=a.take_one("layers_per_block", 2),
        attention_factors=tuple(2**i for i, name in enumerate(down) if known[name]),
        token_width=features,
        transformer_depth=a.take_one("transformer_layers_per_block", 1),
        norm_groups=a.take("norm_num_groups", 32),
        **_heads(a, widths),
    )
    return Configured(
        denoiser=denoiser,
        conditioning=ConditioningConfig(
            semantic=TextSemantic(token_features=features, num_tokens=77, projection="none"),
            rules={"text": "attention"},
            control=NO_CONTROL,
        ),
        diffusion=DiffusionConfig(schedule="sd"),
        latent_channels=channels,
        latent_side=a.take_one("sample_size", None) or 64,
        latent_scale=SD_VAE_SCALE,
    )


def from_unet(model: Configured) -> dict[str, Any]:
    """The arguments of ``UNet2DConditionModel``."""
    denoiser = model.denoiser
    assert isinstance(denoiser, UNetConfig)
    if isinstance(model.conditioning.semantic, TextSemantic):
        text = _text(model, "none")
        _refuse_unless(text.pooled_features is None, "conditioning.semantic.pooled_features")
    else:
        _refuse_unless(
            model.conditioning.rules in ({"label": "attention"}, {}),
            f"conditioning.rules {model.conditioning.rules}",
        )
    widths = [denoiser.channels * multiple for multiple in denoiser.channel_multiples]
    attends = [2**level in denoiser.attention_factors for level in range(len(widths))]
    heads = denoiser.num_heads or [width // (denoiser.head_width or width) for width in widths]
    return {
        "sample_size": model.latent_side,
        "in_channels": model.latent_channels,
        "out_channels": model.latent_channels,
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attends[::-1]],
        "block_out_channels": widths,
        "layers_per_block": denoiser.blocks_per_level,
        "cross_attention_dim": denoiser.token_width,
        "transformer_layers_per_block": denoiser.transformer_depth,
        # In this class the word means a number of heads.
        "attention_head_dim": heads,
        "norm_num_groups": denoiser.norm_groups,
    }


@dataclass(frozen=True, kw_only=True)
class ModelClass:
    """A model class of diffusers."""

    kind: str
    """Of our denoiser."""
    folder: str
    """What pipelines call the part."""
    read: Callable[[Arguments], Configured]
    write: Callable[[Configured], dict[str, Any]]


CLASSES = {
    "DiTTransformer2DModel": ModelClass(
        kind="dit", folder="transformer", read=of_dit, write=from_dit
    ),
    "PixArtTransformer2DModel": ModelClass(
        kind="pixart", folder="transformer", read=of_pixart, write=from_pixart
    ),
    "SD3Transformer2DModel": ModelClass(
        kind="mmdit", folder="transformer", read=of_mmdit, write=from_mmdit
    ),
    "UNet2DConditionModel": ModelClass(kind="unet", folder="unet", read=of_unet, write=from_unet),
}


_TODAY = {
    "ada_norm_zero": "DiTTransformer2DModel",
    "ada_norm_single": "PixArtTransformer2DModel",
}
"""norm_type -> what the class Transformer2DModel became, which older folders still name."""


def read_config(config: Mapping[str, Any], scheduler: Mapping[str, Any] | None) -> Configured:
    """What a config.json of diffusers describes.

    Args:
        config: of the model.
        scheduler: scheduler_config.json; None = the process that the class was published with.

    Raises:
        ValueError: a class, an argument or a scheduler that we do not have; it is named.
    """
    name = str(config.get("_class_name"))
    given = {key: value for key, value in config.items() if not key.startswith("_")}
    if name == "Transformer2DModel":
        name, given = _today(given)
    if name not in CLASSES:
        raise ValueError(f"diffusers' {name} is not supported; only {', '.join(CLASSES)}")
    arguments = Arguments(name, given)
    arguments.ignore("decay", "inv_gamma", "min_decay", "optimization_step", "power")
    arguments.ignore("update_after_step", "use_ema_warmup")  # of diffusers' averaged weights
    found = CLASSES[name].read(arguments)
    arguments.done()
    return found if scheduler is None else replace(found, diffusion=of_scheduler(scheduler))


def _today(given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Class and arguments of a folder of the class Transformer2DModel."""
    name = _TODAY.get(str(given.get("norm_type")), "Transformer2DModel")
    neutral: dict[str, Any] = {"num_vector_embeds": None} | dict.fromkeys(
        ("only_cross_attention", "double_self_attention", "use_linear_projection"), False
    )
    if name == "DiTTransformer2DModel":
        neutral |= {"cross_attention_dim": None, "attention_type": "default"}
    for key, value in neutral.items():
        if given.get(key, value) != value:
            raise ValueError(f"{name}: {key}={given[key]!r} is not supported; only {value!r}")
    return name, {key: value for key, value in given.items() if key not in neutral}


def write_config(model: Configured) -> tuple[str, dict[str, Any]]:
    """The class of diffusers and its arguments.

    Raises:
        ConfigError: diffusers' classes cannot say what this model is; the setting is named.
    """
    conditioning, kind = model.conditioning, model.denoiser.kind
    names = [name for name, known in CLASSES.items() if known.kind == kind]
    _refuse_unless(bool(names), f"denoiser.kind {kind}")
    control = conditioning.control
    fields = ", ".join((*control.high, *control.low))
    _refuse_unless(not fields, f"conditioning.control ({fields})")
    if kind != "mmdit":
        _refuse_unless(not model.denoiser.qk_norm, "denoiser.qk_norm")
    if kind != "pixart":
        _refuse_unless(not conditioning.image_shape, "conditioning.image_shape")
    return names[0], CLASSES[names[0]].write(model)


def _refuse_unless(possible: bool, setting: str) -> None:
    if not possible:
        raise ConfigError(
            f"diffusers has no model class for {setting}; export without --to keeps everything"
        )


def _text(model: Configured, projection: str) -> TextSemantic:
    semantic = model.conditioning.semantic
    if not isinstance(semantic, TextSemantic) or semantic.token_features is None:
        raise ConfigError(
            f"diffusers' {model.denoiser.kind} reads text tokens; conditioning.semantic is "
            f"{semantic.kind} here; export without --to keeps everything"
        )
    _refuse_unless(
        semantic.projection == projection,
        f"conditioning.semantic.projection {semantic.projection}",
    )
    return semantic


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
    _refuse_unless(denoiser.mlp_ratio == 4, f"denoiser.mlp_ratio {denoiser.mlp_ratio}")
    return {
        "num_attention_heads": denoiser.num_heads,
        "attention_head_dim": denoiser.width // denoiser.num_heads,
        "num_layers": denoiser.depth,
        "patch_size": denoiser.patch_size,
        "sample_size": side,
        "attention_bias": True,
        "activation_fn": "gelu-approximate",
    }


def _heads(a: Arguments, widths: list[int]) -> dict[str, Any]:
    """The class calls a number of heads attention_head_dim."""
    heads = a.take("attention_head_dim", None)
    if not isinstance(heads, (list, tuple)):
        return {"num_heads": 8 if heads is None else heads, "head_width": None}
    pairs = zip(widths, heads, strict=False)
    head_widths = {width // count for width, count in pairs if isinstance(count, int) and count}
    if len(head_widths) != 1 or len(heads) != len(widths):
        raise ValueError(
            f"{a.source}: attention_head_dim={list(heads)} is not supported; heads must have one "
            "width, or there must be one number of heads"
        )
    return {"num_heads": None, "head_width": head_widths.pop()}


def _both(names: list[str]) -> tuple[Any, ...]:
    """As JSON has it and as Python has it."""
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
"""Arguments that ours has one value of: the class's default."""

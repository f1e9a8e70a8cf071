# SPDX-License-Identifier: Apache-2.0
"""Settings and tensor tables that several model classes of diffusers share."""

from collections.abc import Iterator
from typing import Any

from pippin.conditioning.config import TextSemantic
from pippin.config import ConfigError
from pippin.denoisers.config import TransformerConfig
from pippin.denoisers.weights.arguments import Arguments, ModelSpec
from pippin.denoisers.weights.tensor_table import Entry, Shapes, layers


def require_supported(possible: bool, setting: str) -> None:
    """Refuse a setting that no class of diffusers has.

    Raises:
        ConfigError: not possible; the setting is named.
    """
    if not possible:
        raise ConfigError(
            f"diffusers has no model class for {setting}; export without --to keeps everything"
        )


def text_semantic(model: ModelSpec, projection: str) -> TextSemantic:
    """Text settings of a model, with the only projection that its class supports.

    Raises:
        ConfigError: the model reads no text tokens, or has another projection.
    """
    semantic = model.conditioning.semantic
    if not isinstance(semantic, TextSemantic) or semantic.token_features is None:
        raise ConfigError(
            f"diffusers' {model.denoiser.kind} reads text tokens; conditioning.semantic is "
            f"{semantic.kind} here; export without --to keeps everything"
        )
    require_supported(
        semantic.projection == projection,
        f"conditioning.semantic.projection {semantic.projection}",
    )
    return semantic


def channels_and_variance(
    args: Arguments, default: int, default_out: int | None
) -> tuple[int, bool]:
    """Latent channels, and True if there are as many for the variance."""
    channels = args.take("in_channels", default)
    out = args.take("out_channels", default_out)
    if out not in (None, channels, 2 * channels):
        raise ValueError(
            f"{args.source}: out_channels={out} is not supported; only {channels} or "
            f"{2 * channels}"
        )
    return channels, out == 2 * channels


def read_transformer(
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


def write_transformer(denoiser: TransformerConfig, side: int) -> dict[str, Any]:
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


PERCEPTRON = (("linear_in", "linear_1"), ("linear_out", "linear_2"))


def perceptron_layers(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    for a, b in PERCEPTRON:
        yield from layers(f"{target}.{a}", f"{source}.{b}", shapes=shapes)


def mlp_layers(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from layers(f"{target}.linear_in", f"{source}.net.0.proj", shapes=shapes)
    yield from layers(f"{target}.linear_out", f"{source}.net.2", shapes=shapes)


def attention_layers(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    qkv = [f"{source}.to_{x}" for x in "qkv"]
    yield from layers(f"{target}.project_in.qkv", *qkv, shapes=shapes)
    yield from layers(f"{target}.project_out", f"{source}.to_out.0", shapes=shapes)

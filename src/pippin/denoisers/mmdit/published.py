# SPDX-License-Identifier: Apache-2.0
"""Published mmDiT (SD3): its constructor arguments and its tensors."""

from collections.abc import Iterator
from typing import Any

from pippin.conditioning.config import ConditioningConfig, TextSemantic
from pippin.denoisers.mmdit.config import MMDiTConfig
from pippin.denoisers.weights.arguments import (
    NO_CONTROL,
    SD3_SCALE,
    SD3_SHIFT,
    Arguments,
    ModelSpec,
)
from pippin.denoisers.weights.formats import PublishedFormat
from pippin.denoisers.weights.published_layers import (
    mlp_layers,
    modulation_layers,
    output_layer,
    perceptron_layers,
    time_and_patches,
)
from pippin.denoisers.weights.tensor_table import Entry, Shapes, layers
from pippin.diffusion.config import DiffusionConfig, LogitNormalTime


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


def mmdit_table(config: MMDiTConfig, shapes: Shapes) -> Iterator[Entry]:
    """Stability-AI/sd3-ref, class ``MMDiT``."""
    yield from time_and_patches(shapes)
    yield from output_layer(shapes)
    yield from perceptron_layers("conditioner.text_vector", "y_embedder", shapes)
    projection = "conditioner.text_tokens.projection"
    yield from layers(projection, "context_embedder", shapes=shapes)
    yield Entry(target="denoiser.table.weight", sources=("pos_embed",))
    for i in range(config.depth):
        for target, source in (("image", "x_block"), ("context", "context_block")):
            target, source = f"denoiser.blocks.{i}.{target}", f"joint_blocks.{i}.{source}"
            yield from modulation_layers(f"{target}.modulation", source, shapes)
            yield from layers(f"{target}.attention_in.qkv", f"{source}.attn.qkv", shapes=shapes)
            yield from layers(f"{target}.attention_out", f"{source}.attn.proj", shapes=shapes)
            if f"{target}.mlp.linear_in.weight" in shapes:
                yield from mlp_layers(f"{target}.mlp", f"{source}.mlp", shapes)
            for a, b in (("query", "ln_q"), ("key", "ln_k")):
                if config.qk_norm:
                    gain = f"{target}.attention_in.norm.{a}.gain"
                    yield Entry(target=gain, sources=(f"{source}.attn.{b}.weight",))


PUBLISHED = {
    "mmdit_sd3": PublishedFormat(
        read=read_mmdit_sd3,
        table=mmdit_table,
        zero_filled=("conditioner.text_tokens.null", "conditioner.text_vector.null"),
        tokens="context",
        pooled=True,
    )
}

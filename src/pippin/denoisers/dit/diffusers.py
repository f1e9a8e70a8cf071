# SPDX-License-Identifier: Apache-2.0
"""DiT in diffusers: configuration both ways, and its tensors."""

from collections.abc import Iterator, Mapping
from typing import Any

from pippin.conditioning.config import ConditioningConfig
from pippin.denoisers.config import SizeName
from pippin.denoisers.dit.config import DiTConfig, dit
from pippin.denoisers.weights.arguments import BY_CLASS, SD_VAE_SCALE, Arguments, ModelSpec
from pippin.denoisers.weights.diffusers_layers import (
    PERCEPTRON,
    attention_layers,
    channels_and_variance,
    mlp_layers,
    read_transformer,
    require_supported,
    write_transformer,
)
from pippin.denoisers.weights.formats import DiffusersFormat
from pippin.denoisers.weights.tensor_table import Entry, Shapes, layers
from pippin.diffusion.config import DiffusionConfig


def read_dit(args: Arguments) -> ModelSpec:
    """``DiTTransformer2DModel``."""
    channels, learned = channels_and_variance(args, 4, None)
    args.ignore("norm_num_groups")
    args.require("norm_type", "ada_norm_zero")
    args.require("norm_eps", 1e-5, 1e-6)  # the published network has 1e-6
    denoiser = DiTConfig(
        **read_transformer(args, depth=28, heads=16, head_width=72), learn_variance=learned
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


DIFFUSERS_VALUES = {
    "norm": "layer",
    "mlp": "gelu",
    "rotary": False,
    "qk_norm_kind": "rms",
    "modulation_shift": True,
    "time_input": "noise",
    "mixer_depth": 0,
}
"""Settings of later transformers -> the only value that ``DiTTransformer2DModel`` has."""


def write_dit(model: ModelSpec) -> dict[str, Any]:
    """Arguments of ``DiTTransformer2DModel``."""
    denoiser = model.denoiser
    assert isinstance(denoiser, DiTConfig)
    require_supported(not denoiser.cross_attention, "denoiser.cross_attention")
    for name, published in DIFFUSERS_VALUES.items():
        value = getattr(denoiser, name)
        require_supported(value == published, f"denoiser.{name} {value}")
    require_supported(denoiser.base_grid is None, f"denoiser.base_grid {denoiser.base_grid}")
    require_supported(
        model.conditioning.rules == {"label": "modulation"},
        f"conditioning.rules {model.conditioning.rules}",
    )
    return {
        **write_transformer(denoiser, model.latent_side),
        "in_channels": model.latent_channels,
        "out_channels": model.latent_channels * (2 if denoiser.learn_variance else 1),
        "num_embeds_ada_norm": model.num_classes,
        "norm_type": "ada_norm_zero",
        "norm_eps": 1e-6,
    }


def dit_table(config: DiTConfig, shapes: Shapes) -> Iterator[Entry]:
    """``DiTTransformer2DModel``, which has embedders of time and class in every block."""
    first, *others = [f"transformer_blocks.{i}.norm1.emb" for i in range(config.depth)]
    yield from layers("denoiser.patches.linear", "pos_embed.proj", shapes=shapes)
    for target, source in PERCEPTRON:
        layer = f"timestep_embedder.{source}"
        copies = tuple(f"{name}.{layer}" for name in others)
        yield from layers(
            f"conditioner.time.{target}", f"{first}.{layer}", shapes=shapes, copies=copies
        )
    table = "class_embedder.embedding_table.weight"
    yield Entry(
        target="conditioner.label_vector.weight",
        sources=(f"{first}.{table}",),
        copies=tuple(f"{name}.{table}" for name in others),
    )
    for i in range(config.depth):
        target, source = f"denoiser.blocks.{i}", f"transformer_blocks.{i}"
        yield from layers(f"{target}.modulation.linear", f"{source}.norm1.linear", shapes=shapes)
        yield from attention_layers(f"{target}.attention", f"{source}.attn1", shapes)
        yield from mlp_layers(f"{target}.mlp", f"{source}.ff", shapes)
    yield from layers("denoiser.output.modulation.linear", "proj_out_1", shapes=shapes)
    yield from layers("denoiser.output.linear", "proj_out_2", shapes=shapes)


NOTE = (
    "diffusers' DiT divides time features by 127, and the published DiT and pippin divide by 128: "
    "it computes other outputs from the same weights; for equal outputs set in diffusers "
    "block.norm1.emb.time_proj.downscale_freq_shift = 0 for each block"
)


def _notes(config: Mapping[str, Any]) -> tuple[str, ...]:
    if config.get("norm_eps", 1e-5) == 1e-6:
        return ()
    return ("its norms add 1e-5 to the variance, pippin's 1e-6",)


def _benchmark(size: SizeName, side: int) -> tuple[DiTConfig, ConditioningConfig]:
    return dit(size), BY_CLASS


def _divide_by_half(model: Any) -> None:
    """Divide time features as pippin does."""
    for block in model.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0


DIFFUSERS = DiffusersFormat(
    name="DiTTransformer2DModel",
    kind="dit",
    folder="transformer",
    pipeline="DiTPipeline",
    read=read_dit,
    write=write_dit,
    table=dit_table,
    anchors=("pos_embed.proj.weight", "proj_out_2.weight"),
    note=NOTE,
    notes=_notes,
    benchmark=_benchmark,
    equalise=_divide_by_half,
)

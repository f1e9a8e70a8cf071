# SPDX-License-Identifier: Apache-2.0
"""Published PixArt-alpha: its constructor arguments and its tensors."""

from collections.abc import Iterator

from pippin.conditioning.config import ConditioningConfig, TextSemantic
from pippin.denoisers.pixart.config import PixArtConfig
from pippin.denoisers.weights.arguments import (
    NO_CONTROL,
    SD_VAE_SCALE,
    Arguments,
    ModelSpec,
    transformer_arguments,
)
from pippin.denoisers.weights.formats import FixedPositions, PublishedFormat
from pippin.denoisers.weights.published_layers import (
    attention_layers,
    mlp_layers,
    perceptron_layers,
    time_and_patches,
)
from pippin.denoisers.weights.tensor_table import Entry, Shapes, layers
from pippin.diffusion.config import DiffusionConfig


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
    shape, side = transformer_arguments(args), args.take("input_size", 32)
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


def pixart_table(config: PixArtConfig, shapes: Shapes) -> Iterator[Entry]:
    """PixArt-alpha/PixArt-alpha, classes ``PixArt`` and ``PixArtMS``."""
    yield from time_and_patches(shapes)
    caption = "conditioner.text_tokens"
    yield Entry(target=f"{caption}.null", sources=("y_embedder.y_embedding",))
    yield from mlp_layers(f"{caption}.projection", "y_embedder.y_proj", shapes)
    for target, source in (("size", "csize_embedder"), ("aspect", "ar_embedder")):
        yield from perceptron_layers(f"conditioner.image_shape.{target}", source, shapes)
    yield from layers("denoiser.shared", "t_block.1", shapes=shapes)
    for i in range(config.depth):
        target, source = f"denoiser.blocks.{i}", f"blocks.{i}"
        table = f"{source}.scale_shift_table"
        yield Entry(target=f"{target}.modulation.table", sources=(table,))
        yield from attention_layers(f"{target}.attention", f"{source}.attn", shapes)
        for a, b in (("query", "q_linear"), ("key_value", "kv_linear"), ("project_out", "proj")):
            yield from layers(f"{target}.cross.{a}", f"{source}.cross_attn.{b}", shapes=shapes)
        yield from mlp_layers(f"{target}.mlp", f"{source}.mlp", shapes)
    table = "final_layer.scale_shift_table"
    yield Entry(target="denoiser.output.modulation.table", sources=(table,))
    yield from layers("denoiser.output.linear", "final_layer.linear", shapes=shapes)


def _positions(config: PixArtConfig, side: int) -> FixedPositions:
    """Positions scaled to the base grid, and then divided by ``lewei_scale``."""
    return FixedPositions(
        step=(config.base_grid or side) / side / config.interpolation,
        hint=f" at lewei_scale={config.interpolation:g}",
    )


PUBLISHED = {
    "pixart": PublishedFormat(
        read=read_pixart, table=pixart_table, stores_side=True, fixed_positions=_positions
    ),
    # Its class does not read pos_embed, which may be of another side.
    "pixart_ms": PublishedFormat(read=read_pixart_ms, table=pixart_table),
}

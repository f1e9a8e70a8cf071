# SPDX-License-Identifier: Apache-2.0
"""Published JiT: its constructor arguments and its tensors."""

from collections.abc import Iterator

from pippin.conditioning.config import ConditioningConfig, LabelSemantic
from pippin.denoisers.jit.config import X_PREDICTION, JiTConfig
from pippin.denoisers.weights.arguments import (
    BY_CLASS,
    NO_CONTROL,
    Arguments,
    ModelSpec,
    take_width,
)
from pippin.denoisers.weights.formats import PublishedFormat, unit_positions
from pippin.denoisers.weights.published_layers import (
    adaln_block,
    output_layer,
    perceptron_layers,
)
from pippin.denoisers.weights.tensor_table import Entry, Shapes, layers
from pippin.encoders.config import PIXELS

IN_CONTEXT = ConditioningConfig(
    semantic=LabelSemantic(num_tokens=1), rules={"label": "both"}, control=NO_CONTROL
)


def read_jit(args: Arguments) -> ModelSpec:
    """LTH14/JiT, with the defaults of the class, which are those of L/16 at 256 pixels."""
    args.ignore("attn_drop", "proj_drop")
    repeats, start = args.take("in_context_len", 32), args.take("in_context_start", 8)
    channels, side = args.take("in_channels", 3), args.take("input_size", 256)
    denoiser = JiTConfig(
        depth=args.take("depth", 24),
        width=take_width(args, 1024),
        num_heads=args.take("num_heads", 16),
        patch_size=args.take("patch_size", 16),
        mlp_ratio=args.take("mlp_ratio", 4.0),
        bottleneck_width=args.take("bottleneck_dim", 128),
        context_start=start if repeats else None,
        context_repeats=repeats or None,
    )
    return ModelSpec(
        denoiser=denoiser,
        conditioning=IN_CONTEXT if repeats else BY_CLASS,
        diffusion=X_PREDICTION,
        latent_channels=channels,
        latent_side=side,
        num_classes=args.take("num_classes", 1000),
        latent_scale=1.0,
        autoencoder=PIXELS if channels == 3 else None,
        notes=_notes(side),
    )


def _notes(side: int) -> tuple[str, ...]:
    """Note about the published models whose process pippin does not have."""
    if side < 512:
        return ()
    return (
        "JiT at 512 pixels was trained with noise of standard deviation 2, and pippin's states "
        "have noise of 1: the network computes the same, but samples are wrong",
    )


def jit_table(config: JiTConfig, shapes: Shapes) -> Iterator[Entry]:
    """LTH14/JiT, class ``JiT``."""
    yield from layers("denoiser.patches.linear_in", "x_embedder.proj1", shapes=shapes)
    yield from layers("denoiser.patches.linear_out", "x_embedder.proj2", shapes=shapes)
    yield from perceptron_layers("conditioner.time", "t_embedder", shapes)
    classes = ("y_embedder.embedding_table.weight",)  # one table for both uses of the class
    yield Entry(target="conditioner.label_vector.weight", sources=classes)
    yield Entry(target="conditioner.label_tokens.weight", sources=classes)
    yield Entry(target="denoiser.context.positions", sources=("in_context_posemb",))
    yield from output_layer(shapes)
    for i in range(config.depth):
        yield from adaln_block(f"denoiser.blocks.{i}", f"blocks.{i}", shapes, mlp="swiglu")


PUBLISHED = {
    "jit": PublishedFormat(
        read=read_jit,
        table=jit_table,
        anchors=("x_embedder.proj1.weight", "final_layer.linear.weight"),
        stores_side=True,
        fixed_positions=unit_positions,
        data_time=True,
        guided="velocity",
    )
}

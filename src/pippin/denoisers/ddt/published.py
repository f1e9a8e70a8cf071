# SPDX-License-Identifier: Apache-2.0
"""Published DDT: its constructor arguments and its tensors."""

from collections.abc import Iterator

from pippin.denoisers.ddt.config import DDTConfig
from pippin.denoisers.weights.arguments import (
    BY_CLASS,
    SD_VAE_SCALE,
    XL_WIDTH,
    Arguments,
    ModelSpec,
    take_width,
)
from pippin.denoisers.weights.formats import PublishedFormat
from pippin.denoisers.weights.published_layers import (
    attention_layers,
    norm_layers,
    perceptron_layers,
)
from pippin.denoisers.weights.tensor_table import Entry, Shapes, layers
from pippin.diffusion.config import DiffusionConfig, LogitNormalTime


def read_ddt(args: Arguments) -> ModelSpec:
    """MCG-NJU/DDT, with the defaults of the class, which are no published model's."""
    args.ignore("learn_sigma", "deep_supervision", "weight_path", "load_ema")
    denoiser = DDTConfig(
        depth=args.take("num_blocks", 18),
        width=take_width(args, XL_WIDTH, heads="num_groups"),
        num_heads=args.take("num_groups", 12),
        encoder_depth=args.take("num_encoder_blocks", 4),
        patch_size=args.take("patch_size", 2),
    )
    return ModelSpec(
        denoiser=denoiser,
        conditioning=BY_CLASS,
        diffusion=DiffusionConfig(
            schedule="flow", prediction="flow", time_density=LogitNormalTime()
        ),
        latent_channels=args.take("in_channels", 4),
        latent_side=32,
        num_classes=args.take("num_classes", 1000),
        latent_scale=SD_VAE_SCALE,
    )


def ddt_table(config: DDTConfig, shapes: Shapes) -> Iterator[Entry]:
    """MCG-NJU/DDT, class ``DDT``."""
    for target, source in (("encoder", "s_embedder"), ("decoder", "x_embedder")):
        yield from layers(f"denoiser.patches.{target}.linear", f"{source}.proj", shapes=shapes)
    yield from perceptron_layers("conditioner.time", "t_embedder", shapes)
    classes = "y_embedder.embedding_table.weight"
    yield Entry(target="conditioner.label_vector.weight", sources=(classes,))
    for i in range(config.depth):
        yield from _block(f"denoiser.blocks.{i}", f"blocks.{i}", shapes)
    yield from _modulation("denoiser.output.modulation", "final_layer", shapes)
    yield from layers("denoiser.output.linear", "final_layer.linear", shapes=shapes, negated=True)


def _block(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from _modulation(f"{target}.modulation", source, shapes)
    yield from norm_layers(f"{target}.norm_attention", f"{source}.norm1", shapes)
    yield from attention_layers(f"{target}.attention", f"{source}.attn", shapes)
    yield from norm_layers(f"{target}.norm_mlp", f"{source}.norm2", shapes)
    gate_and_value = (f"{source}.mlp.w1", f"{source}.mlp.w3")
    yield from layers(f"{target}.mlp.linear_in", *gate_and_value, shapes=shapes)
    yield from layers(f"{target}.mlp.linear_out", f"{source}.mlp.w2", shapes=shapes)


def _modulation(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    """Modulation whose linear layer is the first of its sequence: SiLU is applied before."""
    yield from layers(f"{target}.linear", f"{source}.adaLN_modulation.0", shapes=shapes)


PUBLISHED = {
    "ddt": PublishedFormat(
        read=read_ddt,
        table=ddt_table,
        anchors=("x_embedder.proj.weight", "final_layer.linear.weight"),
        data_time=True,
        guided="separate",
    )
}

# SPDX-License-Identifier: Apache-2.0
"""Published DiT: its constructor arguments and its tensors."""

from collections.abc import Iterator

from pippin.denoisers.dit.config import DiTConfig
from pippin.denoisers.weights.arguments import (
    Arguments,
    ModelSpec,
    class_conditional,
    transformer_arguments,
)
from pippin.denoisers.weights.formats import PublishedFormat, unit_positions
from pippin.denoisers.weights.published_layers import adaln_block, class_conditional_ends
from pippin.denoisers.weights.tensor_table import Entry, Shapes


def read_dit(args: Arguments) -> ModelSpec:
    """facebookresearch/DiT, with the defaults of XL/2."""
    args.ignore("class_dropout_prob")
    denoiser = DiTConfig(
        **transformer_arguments(args), learn_variance=args.take("learn_sigma", True)
    )
    return class_conditional(args, denoiser, args.take("input_size", 32))


def dit_table(config: DiTConfig, shapes: Shapes) -> Iterator[Entry]:
    """facebookresearch/DiT, class ``DiT``."""
    yield from class_conditional_ends(shapes)
    for i in range(config.depth):
        yield from adaln_block(f"denoiser.blocks.{i}", f"blocks.{i}", shapes)


PUBLISHED = {
    "dit": PublishedFormat(
        read=read_dit,
        table=dit_table,
        stores_side=True,
        fixed_positions=unit_positions,
        guided="constant",
    )
}

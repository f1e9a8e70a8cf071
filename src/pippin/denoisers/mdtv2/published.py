# SPDX-License-Identifier: Apache-2.0
"""Published MDTv2: its constructor arguments and its tensors."""

from collections.abc import Iterator

from pippin.denoisers.mdtv2.config import MDTv2Config
from pippin.denoisers.weights.arguments import (
    Arguments,
    ModelSpec,
    class_conditional,
    transformer_arguments,
)
from pippin.denoisers.weights.formats import PublishedFormat
from pippin.denoisers.weights.published_layers import adaln_block, class_conditional_ends
from pippin.denoisers.weights.tensor_table import Entry, Shapes, layers


def read_mdtv2(args: Arguments) -> ModelSpec:
    """sail-sg/MDT, second version."""
    args.ignore("class_dropout_prob")
    shape = transformer_arguments(args)
    side = args.take("input_size", 32)
    grid = side // shape["patch_size"]
    denoiser = MDTv2Config(
        **shape,
        grid=(grid, grid),
        decoder_depth=args.take("decode_layer", 4),
        mask_ratio=args.take("mask_ratio", None),
        learn_variance=args.take("learn_sigma", True),
    )
    return class_conditional(args, denoiser, side)


def mdtv2_table(config: MDTv2Config, shapes: Shapes) -> Iterator[Entry]:
    """sail-sg/MDT, class ``MDTv2``."""
    yield from class_conditional_ends(shapes)
    half = (config.depth - config.decoder_depth) // 2
    source = [
        *(f"en_inblocks.{i}" for i in range(half)),
        *(f"en_outblocks.{i}" for i in range(half)),
        *(f"de_blocks.{i}" for i in range(config.decoder_depth)),
    ]
    for i, name in enumerate(source):
        yield from _mdt_block(f"denoiser.blocks.{i}", name, shapes)
    yield Entry(target="denoiser.positions.weight", sources=("pos_embed",))
    yield Entry(target="denoiser.decoder_positions.weight", sources=("decoder_pos_embed",))
    if config.mask_ratio is not None:
        yield Entry(target="denoiser.interpolater.mask_token", sources=("mask_token",))
        yield from _mdt_block("denoiser.interpolater.block", "sideblocks.0", shapes)


def _mdt_block(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from adaln_block(f"{target}.block", source, shapes)
    table = f"{source}.attn.rel_pos_bias.relative_position_bias_table"
    yield Entry(target=f"{target}.bias.table", sources=(table,))
    yield from layers(f"{target}.skip", f"{source}.skip_linear", shapes=shapes)


PUBLISHED = {
    "mdtv2": PublishedFormat(
        read=read_mdtv2, table=mdtv2_table, stores_side=True, guided="power-cosine"
    )
}

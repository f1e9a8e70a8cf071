# SPDX-License-Identifier: Apache-2.0
"""Tensor tables of layers that several published implementations share."""

from collections.abc import Iterator

from pippin.denoisers.weights.tensor_table import Entry, Shapes, layers
from pippin.nn.config import MLPName


def class_conditional_ends(shapes: Shapes, *, negated: bool = False) -> Iterator[Entry]:
    """Embedders and output layer of DiT, MDTv2, SiT and LightningDiT.

    Args:
        negated: as of :class:`Entry`, for the output.
    """
    yield from time_and_patches(shapes)
    yield from output_layer(shapes, negated=negated)
    table = "y_embedder.embedding_table.weight"
    yield Entry(target="conditioner.label_vector.weight", sources=(table,))


def time_and_patches(shapes: Shapes) -> Iterator[Entry]:
    yield from layers("denoiser.patches.linear", "x_embedder.proj", shapes=shapes)
    yield from perceptron_layers("conditioner.time", "t_embedder", shapes)


def output_layer(shapes: Shapes, *, negated: bool = False) -> Iterator[Entry]:
    yield from modulation_layers("denoiser.output.modulation", "final_layer", shapes)
    yield from norm_layers("denoiser.output.norm", "final_layer.norm_final", shapes)
    source = "final_layer.linear"
    yield from layers("denoiser.output.linear", source, shapes=shapes, negated=negated)


def perceptron_layers(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from layers(f"{target}.linear_in", f"{source}.mlp.0", shapes=shapes)
    yield from layers(f"{target}.linear_out", f"{source}.mlp.2", shapes=shapes)


def modulation_layers(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from layers(f"{target}.linear", f"{source}.adaLN_modulation.1", shapes=shapes)


def mlp_layers(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from layers(f"{target}.linear_in", f"{source}.fc1", shapes=shapes)
    yield from layers(f"{target}.linear_out", f"{source}.fc2", shapes=shapes)


def swiglu_layers(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from layers(f"{target}.linear_in", f"{source}.w12", shapes=shapes)
    yield from layers(f"{target}.linear_out", f"{source}.w3", shapes=shapes)


def norm_layers(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    """Entries of an RMS norm's gain, or of a layer norm's gain and bias, where it has them."""
    if f"{target}.gain" in shapes:
        yield Entry(target=f"{target}.gain", sources=(f"{source}.weight",))
    yield from layers(target, source, shapes=shapes)


def attention_layers(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from layers(f"{target}.project_in.qkv", f"{source}.qkv", shapes=shapes)
    for a, b in (("query", "q_norm"), ("key", "k_norm")):
        yield from norm_layers(f"{target}.project_in.norm.{a}", f"{source}.{b}", shapes)
    yield from layers(f"{target}.project_out", f"{source}.proj", shapes=shapes)


def adaln_block(
    target: str, source: str, shapes: Shapes, *, mlp: MLPName = "gelu"
) -> Iterator[Entry]:
    yield from modulation_layers(f"{target}.modulation", source, shapes)
    yield from norm_layers(f"{target}.norm_attention", f"{source}.norm1", shapes)
    yield from attention_layers(f"{target}.attention", f"{source}.attn", shapes)
    yield from norm_layers(f"{target}.norm_mlp", f"{source}.norm2", shapes)
    mlp_table = swiglu_layers if mlp == "swiglu" else mlp_layers
    yield from mlp_table(f"{target}.mlp", f"{source}.mlp", shapes)

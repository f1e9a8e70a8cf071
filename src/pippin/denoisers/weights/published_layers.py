# SPDX-License-Identifier: Apache-2.0
"""Tensor tables of layers that several published implementations share."""

from collections.abc import Iterator

from pippin.denoisers.weights.tensor_table import Entry, Shapes, layers


def class_conditional_ends(shapes: Shapes) -> Iterator[Entry]:
    """Embedders and output layer of DiT and MDTv2."""
    yield from time_and_patches(shapes)
    yield from output_layer(shapes)
    table = "y_embedder.embedding_table.weight"
    yield Entry(target="conditioner.label_vector.weight", sources=(table,))


def time_and_patches(shapes: Shapes) -> Iterator[Entry]:
    yield from layers("denoiser.patches.linear", "x_embedder.proj", shapes=shapes)
    yield from perceptron_layers("conditioner.time", "t_embedder", shapes)


def output_layer(shapes: Shapes) -> Iterator[Entry]:
    yield from modulation_layers("denoiser.output.modulation", "final_layer", shapes)
    yield from layers("denoiser.output.linear", "final_layer.linear", shapes=shapes)


def perceptron_layers(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from layers(f"{target}.linear_in", f"{source}.mlp.0", shapes=shapes)
    yield from layers(f"{target}.linear_out", f"{source}.mlp.2", shapes=shapes)


def modulation_layers(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from layers(f"{target}.linear", f"{source}.adaLN_modulation.1", shapes=shapes)


def mlp_layers(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from layers(f"{target}.linear_in", f"{source}.fc1", shapes=shapes)
    yield from layers(f"{target}.linear_out", f"{source}.fc2", shapes=shapes)


def attention_layers(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from layers(f"{target}.project_in.qkv", f"{source}.qkv", shapes=shapes)
    yield from layers(f"{target}.project_out", f"{source}.proj", shapes=shapes)


def adaln_block(target: str, source: str, shapes: Shapes) -> Iterator[Entry]:
    yield from modulation_layers(f"{target}.modulation", source, shapes)
    yield from attention_layers(f"{target}.attention", f"{source}.attn", shapes)
    yield from mlp_layers(f"{target}.mlp", f"{source}.mlp", shapes)

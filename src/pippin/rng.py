# SPDX-License-Identifier: Apache-2.0
"""Named random streams.

Every random number comes from a generator of one named stream on the CPU, in fp32. Its key does
not depend on the distribution of the work: seed, epoch, step, sample index, parameter name; never
a rank or a worker. Random numbers are drawn for the global batch and sliced. A run can therefore
stop at any image and resume with the same numbers, without saving generator states.

One stream is drawn on the device of the model: the noise of caption padding in training, which is
many times larger than all others together. It has a key for each image of the batch, and so gives
the same numbers for any world size; a GPU's generator gives other numbers than a CPU's.

Changing a key or the hash here changes every result: do not.
"""

import hashlib
from typing import Literal

import torch
from torch import Tensor

Stream = Literal[
    "init",  # (seed, parameter name)
    "order",  # (seed, epoch), with buckets (seed, epoch, bucket)
    "scene",  # (seed, scene, attempt): what an image of shapes shows
    "size",  # (seed, image): original size
    "view",  # (seed, image, view): tone, crop, flip
    "posterior",  # (seed, step): which latent of the autoencoder's posterior; for a decoder of
    # features its noise, and with "scale" the level of that noise
    "time",  # (seed, step)
    "noise",  # (seed, step)
    "drop",  # (seed, step)
    "padding",  # (seed, step), on a GPU (seed, step, row); with "sample", of a sample seed
    "caption",  # (seed, step): which of an image's captions
    "mask",  # (seed, step), and with "ratio"
    "sample",  # (sample seed,): the initial noise; with a step, ancestral sampling's; with
    # "control", which training view's control is requested
    "subset",  # (seed, purpose): which images or samples a measurement uses
]


def generator(
    stream: Stream, *key: int | str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Generator that depends only on the stream's name, its key and the type of device."""
    text = "/".join([stream, *(f"{type(part).__name__[0]}{part}" for part in key)])
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def normal(shape: tuple[int, ...], stream: Stream, *key: int | str) -> Tensor:
    """Standard normal fp32 numbers of one stream."""
    return torch.randn(shape, generator=generator(stream, *key))


def normal_rows(
    shape: tuple[int, ...],
    rows: slice,
    stream: Stream,
    *key: int | str,
    device: torch.device | str,
) -> Tensor:
    """Some rows of a tensor of standard normal fp32 numbers. Each row is drawn on the device with
    a generator of its own, keyed by its index; the other rows are not drawn.

    Args:
        shape: shape of the full tensor.
        rows: slice of its rows.
        stream, key: stream and key of the full tensor; the row index is appended to the key.
        device: device of the generators and of the result.
    """
    indices = range(*rows.indices(shape[0]))
    tensor = torch.empty((len(indices), *shape[1:]), dtype=torch.float32, device=device)
    for row, index in zip(tensor, indices, strict=True):
        row.normal_(generator=generator(stream, *key, index, device=device))
    return tensor


def uniform(shape: tuple[int, ...], stream: Stream, *key: int | str) -> Tensor:
    """Uniform fp32 numbers in [0, 1) of one stream."""
    return torch.rand(shape, generator=generator(stream, *key))


def permutation(length: int, stream: Stream, *key: int | str) -> Tensor:
    """Random permutation of range(length)."""
    return torch.randperm(length, generator=generator(stream, *key))

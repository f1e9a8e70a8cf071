# SPDX-License-Identifier: Apache-2.0
"""Named random streams.

Every draw comes from a generator of one named stream on the CPU, in fp32, keyed by things that
do not depend on how the work is split: seed, epoch, step, sample index, parameter name; never a
rank or a worker. A batch's draws are made for the global batch and sliced. So a run can stop at
any image and go on with the same numbers without storing the state of a generator.

One stream is drawn where the model is: on a card, the noise of captions' padding in training,
which is many times all others together. It has a key for each image of the batch, and so the same
numbers for any number of processes; a card's generator gives others than a CPU's.

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
    "size",  # (seed, picture): original size
    "view",  # (seed, picture, view): tone, crop, flip
    "posterior",  # (seed, step): which latent of the autoencoder's posterior
    "time",  # (seed, step)
    "noise",  # (seed, step)
    "drop",  # (seed, step)
    "padding",  # (seed, step), on a card (seed, step, place); with "sample", of a sample seed
    "caption",  # (seed, step): which of a picture's captions
    "mask",  # (seed, step), and with "ratio"
    "sample",  # (sample seed,): the first noise; with a step, ancestral sampling's; with
    # "control", which training view's control is asked for
    "subset",  # (seed, purpose): which pictures or samples a measurement uses
]


def generator(
    stream: Stream, *key: int | str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator that depends on the stream's name, its key and the kind of device only."""
    text = "/".join([stream, *(f"{type(part).__name__[0]}{part}" for part in key)])
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def normal(shape: tuple[int, ...], stream: Stream, *key: int | str) -> Tensor:
    """Standard normal fp32 numbers of one stream."""
    return torch.randn(shape, generator=generator(stream, *key))


def rows_of_normal(
    shape: tuple[int, ...],
    rows: slice,
    stream: Stream,
    *key: int | str,
    device: torch.device | str,
) -> Tensor:
    """Some rows of a tensor of standard normal fp32 numbers, whose rows are drawn one by one on a
    device, each under its place: nobody draws the others.

    Args:
        shape: of the whole.
        rows: which of them.
        stream, key: of all; the place is one more part.
        device: where they are drawn and stay.
    """
    places = range(*rows.indices(shape[0]))
    found = torch.empty((len(places), *shape[1:]), dtype=torch.float32, device=device)
    for row, place in zip(found, places, strict=True):
        row.normal_(generator=generator(stream, *key, place, device=device))
    return found


def uniform(shape: tuple[int, ...], stream: Stream, *key: int | str) -> Tensor:
    """Uniform fp32 numbers in [0, 1) of one stream."""
    return torch.rand(shape, generator=generator(stream, *key))


def permutation(length: int, stream: Stream, *key: int | str) -> Tensor:
    """A random order of range(length)."""
    return torch.randperm(length, generator=generator(stream, *key))

# SPDX-License-Identifier: Apache-2.0
"""Features of captions, encoded once and read from shards by memory map."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from pippin.data.shards import read_shard, shard_fault, shard_name, write_shard
from pippin.types import TextFeatures

SHARD = 2048
"""Captions in a shard."""
BATCH = 64
"""Captions that are encoded at once."""
Progress = Callable[[int, int], None]


@runtime_checkable
class CaptionEncoder(Protocol):
    """What data needs of a text encoder."""

    def encode(self, captions: Sequence[str], num_tokens: int) -> TextFeatures:
        """Tokens of every place, mask of a caption's own, pooled vector."""
        ...


class CaptionBank:
    """Features of a set of captions; a row is a caption's place in sorted order.

    Args:
        folder: with the shards of all captions.
        captions: in order.
    """

    def __init__(self, folder: Path, captions: Sequence[str]) -> None:
        self._rows = {caption: row for row, caption in enumerate(captions)}
        count = -(-len(captions) // SHARD)
        self._shards = [read_shard(folder / shard_name(number)) for number in range(count)]

    def rows(self, captions: Sequence[str]) -> Int[Tensor, " captions"]:
        """The row of each caption.

        Raises:
            KeyError: a caption that the bank was not made of.
        """
        return torch.tensor([self._rows[caption] for caption in captions])

    def fetch(self, rows: Int[Tensor, " batch"]) -> TextFeatures:
        """Features of rows, on the CPU in fp32."""
        places = [divmod(row, SHARD) for row in rows.tolist()]

        def column(name: str) -> Tensor | None:
            if name not in self._shards[0]:
                return None
            return torch.stack([self._shards[shard][name][place] for shard, place in places])

        tokens, mask, pooled = column("tokens"), column("mask"), column("pooled")
        return TextFeatures(
            tokens=None if tokens is None else tokens.float(),
            mask=mask,
            pooled=None if pooled is None else pooled.float(),
        )


def build_bank(
    captions: Sequence[str],
    encoder: Callable[[], CaptionEncoder],
    *,
    folder: Path,
    fingerprint: str,
    num_tokens: int,
    dtype: torch.dtype,
    progress: Progress | None = None,
) -> CaptionBank:
    """Encode what is not there yet, and open the bank.

    Args:
        captions: in any order, repeated or not.
        encoder: made only where something is to be encoded.
        folder: of all caches; the bank is a folder in it, named by what it is made of.
        fingerprint: of the encoder.
        num_tokens: places of a caption.
        dtype: of the features on disk.
        progress: told of captions done and in all.

    Raises:
        OSError: disk full or not writable; finished shards stay and are used again.
    """
    ordered = sorted(set(captions))
    ingredients = {
        "encoder": fingerprint,
        "num_tokens": num_tokens,
        "dtype": str(dtype).removeprefix("torch."),
        "captions": hashlib.sha256(json.dumps(ordered).encode()).hexdigest(),
    }
    key = hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()[:16]
    place, made = folder / f"text-{key}", None
    for number, start in enumerate(range(0, len(ordered), SHARD)):
        part = ordered[start : start + SHARD]
        identity = {**ingredients, "start": start, "count": len(part)}
        path = place / shard_name(number)
        if shard_fault(path, identity) is not None:
            made = made or encoder()
            place.mkdir(parents=True, exist_ok=True)
            write_shard(
                path,
                _encoded(made, part, num_tokens, dtype, start, len(ordered), progress),
                identity,
            )
    return CaptionBank(place, ordered)


def _encoded(
    encoder: CaptionEncoder,
    captions: Sequence[str],
    num_tokens: int,
    dtype: torch.dtype,
    start: int,
    total: int,
    progress: Progress | None,
) -> dict[str, Tensor]:
    """The tensors of one shard."""
    parts = []
    for first in range(0, len(captions), BATCH):
        parts.append(encoder.encode(captions[first : first + BATCH], num_tokens))
        if progress is not None:
            progress(start + min(first + BATCH, len(captions)), total)
    columns = {
        "tokens": [part.tokens for part in parts],
        "mask": [part.mask for part in parts],
        "pooled": [part.pooled for part in parts],
    }
    found = {}
    for name, values in columns.items():
        present = [value for value in values if value is not None]
        if present:
            column = torch.cat(present)
            found[name] = column if name == "mask" else column.to(dtype)
    return found

# SPDX-License-Identifier: Apache-2.0
"""Safetensors files that hold shards of tensors, and where each shard belongs.

The files of one set are called ``PART-RANK-of-RANKS.safetensors``, their tensors ``PART/NAME``.
The header's metadata state the offsets of each shard under the key of torch's
HuggingFaceStorageWriter, so that its reader opens them too, and the size of the full tensor. All
of it is JSON: nothing is unpickled.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

SHARDING, OFFSETS, SIZE = "DCP_SHARDING_INFO", "saved_offsets", "size"
"""Key of the header's metadata, and the entries of each tensor in it: offsets of the shard, as
torch's writer names them, and size of the full tensor."""
_NAME = re.compile(r"(?P<part>.+)-\d{5}-of-\d{5}\.safetensors")

Size = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Place of one shard."""

    file: str
    offsets: Size
    """Index of its first element in the full tensor."""
    size: Size


@dataclass(frozen=True, kw_only=True)
class ShardedTensor:
    """A tensor of a set of files."""

    size: Size
    """Size of the full tensor."""
    dtype: torch.dtype
    shards: tuple[Shard, ...]


def shard_file_name(part: str, rank: int, ranks: int) -> str:
    """Name of the file with a rank's shards of a part; ranks count from 0."""
    return f"{part}-{rank + 1:05d}-of-{ranks:05d}.safetensors"


def part_of_file(name: str) -> str | None:
    """Part that a file holds shards of; None for other names."""
    match = _NAME.fullmatch(name)
    return match["part"] if match else None


def shard_metadata(places: Mapping[str, tuple[Size, Size]]) -> dict[str, str]:
    """Metadata of a file's header: one entry, because safetensors writes several in random order,
    and equal states are to have equal files.

    Args:
        places: tensor -> (offsets of its shard, size of the full tensor).
    """
    entries = {
        name: {OFFSETS: list(offsets), SIZE: list(size)}
        for name, (offsets, size) in places.items()
    }
    return {SHARDING: json.dumps(entries, sort_keys=True)}


def read_index(folder: Path, files: Iterable[str]) -> dict[str, ShardedTensor]:
    """Tensors of a set of files by ``PART/NAME``; only headers are read.

    Raises:
        ValueError: a file is damaged, or the shards of a tensor do not make up its size; the
            message names the file or the folder.
        OSError: a file cannot be read.
    """
    entries: dict[str, list[tuple[Shard, Size, torch.dtype]]] = {}
    for file in files:
        for name, shard, size, dtype in _read_header(folder, file):
            entries.setdefault(name, []).append((shard, size, dtype))
    return {name: _joined(folder, name, shards) for name, shards in entries.items()}


def _read_header(folder: Path, file: str) -> Iterator[tuple[str, Shard, Size, torch.dtype]]:
    try:
        with safe_open(folder / file, framework="pt") as opened:
            places: dict[str, Any] = json.loads((opened.metadata() or {})[SHARDING])
            for name in opened.keys():  # noqa: SIM118
                view, place = opened.get_slice(name), places[name]
                size = tuple(view.get_shape())
                dtype = view[:0].dtype if size else opened.get_tensor(name).dtype
                shard = Shard(file=file, offsets=tuple(place[OFFSETS]), size=size)
                full = tuple(place[SIZE])
                _check_inside(name, shard, full)
                yield name, shard, full, dtype
    except (SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{folder / file} is damaged, or holds no shards ({error})") from error


def _check_inside(name: str, shard: Shard, full: Size) -> None:
    for start, count, size in zip(shard.offsets, shard.size, full, strict=True):
        if start < 0 or start + count > size:
            raise ValueError(f"a shard of {name} lies outside of it")


def _joined(
    folder: Path, name: str, entries: list[tuple[Shard, Size, torch.dtype]]
) -> ShardedTensor:
    """A tensor from all its shards."""
    shards, sizes, dtypes = zip(*entries, strict=True)
    held = sum(math.prod(shard.size) for shard in shards)
    if len(set(sizes)) > 1 or len(set(dtypes)) > 1 or held != math.prod(sizes[0]):
        raise ValueError(
            f"{folder} is damaged: its shards of {name} hold {held} numbers and state the sizes "
            f"{sorted(set(sizes))}"
        )
    return ShardedTensor(size=sizes[0], dtype=dtypes[0], shards=tuple(shards))


def read_full_tensors(
    folder: Path, index: Mapping[str, ShardedTensor]
) -> Iterator[tuple[str, Tensor]]:
    """(name, full tensor) of each entry of an index, on the CPU. One is assembled at a time.

    Raises:
        ValueError: a file is damaged; the message names it.
        OSError: a file cannot be read.
    """
    with ExitStack() as stack:
        opened: dict[str, Any] = {}
        for name, tensor in index.items():
            full = torch.empty(tensor.size, dtype=tensor.dtype)
            for shard in tensor.shards:
                if shard.file not in opened:
                    opened[shard.file] = stack.enter_context(open_shards(folder / shard.file))
                region = tuple(
                    slice(start, start + count)
                    for start, count in zip(shard.offsets, shard.size, strict=True)
                )
                full[region].copy_(opened[shard.file].get_tensor(name))
            yield name, full


def open_shards(file: Path) -> Any:
    """Open a file of shards, as :func:`safetensors.safe_open` does.

    Raises:
        ValueError: the file is damaged; the message names it.
        OSError: the file cannot be read.
    """
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged: {error}") from error

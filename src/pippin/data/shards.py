# SPDX-License-Identifier: Apache-2.0
"""Shard files of a latent cache: written whole or not at all, read by memory map."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, uint8

_METADATA = "pippin"


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:05d}.safetensors"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, flush it to the disk, then give it its name.

    The file is never seen half-written. On any error, a full disk included, the temporary file is
    removed and nothing appears under the final name.

    Raises:
        OSError: the file system's own error.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_shard(path: Path, tensors: dict[str, Tensor], identity: dict[str, Any]) -> None:
    """Write one shard atomically.

    Args:
        path: where.
        tensors: what it holds.
        identity: what it is: key of the cache and row range. Stored in the header together with
            a checksum, so that a later build can tell whether this shard is the one it needs.
    """
    header = json.dumps({**identity, "content": _content_digest(tensors)}, sort_keys=True)
    write_atomically(path, safetensors.torch.save(tensors, metadata={_METADATA: header}))


def read_shard(path: Path) -> dict[str, Tensor]:
    """The tensors of a shard, mapped from the file: memory is used only for what is read."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def is_shard(path: Path, identity: dict[str, Any]) -> bool:
    """Whether a whole, unharmed shard with this identity stands at ``path``."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()[_METADATA])
        content = _content_digest(read_shard(path))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return False
    return header == {**identity, "content": content}


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content_digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(uint8).numpy().data)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

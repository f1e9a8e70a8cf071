# SPDX-License-Identifier: Apache-2.0
"""Shard files of a latent cache: written whole or not at all, read by memory map."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, uint8

from pippin.system.formats import FORMATS, VERSION, FormatError, check_format
from pippin.system.tensors import save_tensors

_METADATA = "pippin"
KIND = "cache shard"
"""Of :data:`pippin.system.formats.FORMATS`; of latents and of features of captions."""


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:05d}.safetensors"


def write_shard(path: Path, tensors: dict[str, Tensor], identity: dict[str, Any]) -> None:
    """Write one shard atomically.

    Args:
        path: where.
        tensors: what it holds.
        identity: what it is: key of the cache and row range. Stored in the header together with
            a checksum, so that a later build can tell whether this shard is the one it needs.
    """
    content = {**identity, "content": _content_digest(tensors), VERSION: FORMATS[KIND]}
    header = json.dumps(content, sort_keys=True)
    save_tensors(path, tensors, metadata={_METADATA: header})


def read_shard(path: Path) -> dict[str, Tensor]:
    """The tensors of a shard, mapped from the file: memory is used only for what is read."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def shard_fault(path: Path, identity: dict[str, Any], *, checksum: bool = True) -> str | None:
    """Why no whole, unharmed shard with this identity stands at ``path``; None where one does.

    Args:
        path: of the shard.
        identity: as it was written with.
        checksum: read the content too, and compare its checksum.

    Raises:
        FormatError: the shard is of a newer version, which is not to be written over.
    """
    if not path.exists():
        return "missing"
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()[_METADATA])
        check_format(KIND, header.pop(VERSION, None), path)
        content = _content_digest(read_shard(path)) if checksum else header["content"]
    except FormatError:
        raise
    except (OSError, SafetensorError, LookupError, TypeError, AttributeError, ValueError) as error:
        return f"not readable ({error})"
    if header == {**identity, "content": content}:
        return None
    same = isinstance(header, dict) and header | identity == header
    return "damaged (its checksum is wrong)" if same else "of other settings"


def _content_digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(uint8).numpy().data)
    return digest.hexdigest()

# SPDX-License-Identifier: Apache-2.0
"""Shard files of a latent cache: written atomically, read by memory map."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pippin.system.formats import FORMATS, VERSION, FormatError, check_format
from pippin.system.json_text import parse_json
from pippin.system.tensors import save_tensors, typed_digest

_METADATA = "pippin"
KIND = "cache shard"
"""Key in :data:`pippin.system.formats.FORMATS`, for latents and for caption features."""


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.safetensors"


def write_shard(path: Path, tensors: dict[str, Tensor], identity: dict[str, Any]) -> None:
    """Write one shard atomically.

    Args:
        path: path of the shard.
        tensors: content of the shard.
        identity: key of the cache and row range. The header stores it with a checksum, so a later
            build can check that the shard is the required one.
    """
    content = {**identity, "content": typed_digest(tensors), VERSION: FORMATS[KIND]}
    header = json.dumps(content, sort_keys=True)
    save_tensors(path, tensors, metadata={_METADATA: header})


def read_shard(path: Path) -> dict[str, Tensor]:
    """Memory-mapped tensors of a shard; only the values that are read use memory."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def shard_fault(path: Path, identity: dict[str, Any], *, checksum: bool = True) -> str | None:
    """Fault of the shard at ``path``; None if it is complete and has this identity.

    Args:
        path: path of the shard.
        identity: expected identity.
        checksum: also read the content and compare its checksum.

    Raises:
        FormatError: the shard has a newer version and must not be overwritten.
    """
    if not path.exists():
        return "missing"
    try:
        with safe_open(path, framework="pt") as file:
            header = parse_json(file.metadata()[_METADATA])
        check_format(KIND, header.pop(VERSION, None), path)
        content = typed_digest(read_shard(path)) if checksum else header["content"]
    except FormatError:
        raise
    except (OSError, SafetensorError, LookupError, TypeError, AttributeError, ValueError) as error:
        return f"not readable ({error})"
    if header == {**identity, "content": content}:
        return None
    same = isinstance(header, dict) and header | identity == header
    return "damaged (its checksum is wrong)" if same else "of other settings"

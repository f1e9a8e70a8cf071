# SPDX-License-Identifier: Apache-2.0
"""Safetensors files: written atomically, with errors that name the file."""

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pippin.system.files import atomic_write

DIGESTS_FILE = "sha256.json"
"""File beside the package's weight folders: folder name -> its :func:`tensors_digest`."""
_OS_ERROR = re.compile(r"os error (\d+)")


def save_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Replace a file atomically; tensors may be on any device and need not be contiguous.

    Permissions follow the umask, as for other files; safetensors alone lets only the owner read.
    Equal tensors and metadata give equal bytes.

    Raises:
        OSError: disk full or not writable; an earlier file stays.
    """
    on_cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_write(path) as staging:
        staging.touch()
        mode = stat.S_IMODE(staging.stat().st_mode)
        try:
            save_file(on_cpu, staging, metadata=metadata)
            _sort_metadata(staging)
            staging.chmod(mode)
        except SafetensorError as error:  # how safetensors reports file system errors
            match = _OS_ERROR.search(str(error))
            code = int(match[1]) if match else errno.EIO
            raise OSError(code, os.strerror(code), str(path)) from error


def _sort_metadata(path: Path) -> None:
    """Sort the entries of a file's metadata by name, which safetensors writes in random order."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        if len(header.get("__metadata__", {})) < 2:
            return
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= size:  # else its escapes are longer than safetensors' own
            file.seek(8)
            file.write(text.ljust(size))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Load all tensors of a file, on the CPU.

    Raises:
        ValueError: the file is damaged.
        OSError: the file cannot be read.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Hexadecimal SHA-256 over names and values, independent of files and devices.

    Throughput about 1.8 GB/s on one core.
    """
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(content.numpy().data)
    return digest.hexdigest()


def typed_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of CPU tensors: identifies an exact file."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def recorded_digest(folder: Path) -> str:
    """Digest of a weight folder of the package, read from the file beside the folder."""
    digests: dict[str, str] = json.loads((folder.parent / DIGESTS_FILE).read_bytes())
    return digests[folder.name]

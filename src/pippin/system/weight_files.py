# SPDX-License-Identifier: Apache-2.0
"""Reading of foreign weight files without running code from them."""

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from pippin.system.files import read_regular
from pippin.system.formats import parse_json
from pippin.system.weight_folders import INDEX, file_names

PICKLED = (".pt", ".pth", ".ckpt", ".bin")
SUPPORTED = f".safetensors, .safetensors.index.json, {', '.join(PICKLED)}, .bin.index.json"
"""File name suffixes that are read, for messages."""
GGUF = b"GGUF"
"""First bytes of llama.cpp's format of quantised weights."""
TORCH_MAGIC = (b"PK\x03\x04", b"\x80\x02")
"""First bytes of ``torch.save`` files, for names without one of these suffixes."""


def read_file(path: Path) -> Any:
    """Read a weight file: tensors by name, or any other object of ``torch.save``.

    Args:
        path: .safetensors, .pt, .pth, .ckpt, .bin, or an index of several .safetensors or .bin.

    Raises:
        ValueError: unsupported or damaged file, or more than weights in it.
        FileNotFoundError: the file is missing.
    """
    if path.is_dir():
        raise FileNotFoundError(
            f"{path} is a folder, not a file; give a weight file in it: {file_names(path)}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; give a weight file")
    refuse_gguf(path)
    if INDEX.search(path.name):
        return _read_shards(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in PICKLED or _first_bytes(path).startswith(TORCH_MAGIC):
        return _read_pickled(path)
    raise ValueError(
        f"{path} has the suffix {path.suffix or 'none'}; weights are read from {SUPPORTED}"
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from a file that holds nothing else.

    Raises:
        ValueError: as :func:`read_file`, or anything but tensors by name.
        FileNotFoundError: the file is missing.
    """
    content = read_file(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not weights by name")
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(f"{path} holds more than tensors by name: {', '.join(others[:3])}")
    return {str(name): value for name, value in content.items()}


def stored_types(path: Path) -> dict[str, str]:
    """Type of each tensor of a file that :func:`read_file` reads, as safetensors names types
    ("F32", "F8_E4M3", "I8"). Of safetensors files only the header is read.

    Raises:
        ValueError: as :func:`read_tensors`.
        FileNotFoundError: the file is missing.
    """
    files = shards(path) if INDEX.search(path.name) else [path]
    if any(file.suffix != ".safetensors" for file in files):
        return {name: type_name(value.dtype) for name, value in read_tensors(path).items()}
    return {name: entry.dtype for file in files for name, entry in _header(file).items()}


def stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of safetensors weights, one file or shards with an index; only headers
    are read.

    Raises:
        ValueError, FileNotFoundError: as :func:`stored_types`.
    """
    files = shards(path) if INDEX.search(path.name) else [path]
    return {name: entry.shape for file in files for name, entry in _header(file).items()}


def type_name(dtype: torch.dtype) -> str:
    """Safetensors' name of a dtype; torch's own name if safetensors has none."""
    return _NAMES.get(dtype, str(dtype))


_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.int8: "I8",
    torch.uint8: "U8",
}


class _Entry(NamedTuple):
    """Type and shape of a tensor."""

    dtype: str
    shape: tuple[int, ...]


def _header(path: Path) -> dict[str, _Entry]:
    """Type and shape of each tensor."""
    refuse_gguf(path)
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {n: _Entry(s.get_dtype(), tuple(s.get_shape())) for n, s in slices.items()}
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from error


def shards(index: Path) -> list[Path]:
    """Files named by an index.

    Raises:
        ValueError: the index is damaged, or names files outside its folder.
    """
    try:
        names = set(_weight_map(index).values())
        inside = all(Path(name).name == name for name in names)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is damaged or not an index of weight files: {error}") from error
    if not inside:
        raise ValueError(f"{index} names files outside its folder")
    return [index.parent / name for name in sorted(names)]


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor -> file."""
    return parse_json(read_regular(index))["weight_map"]


def refuse_gguf(path: Path) -> None:
    """Refuse llama.cpp's format, whatever the file name.

    Raises:
        ValueError: a GGUF file.
    """
    if _first_bytes(path) == GGUF:
        raise ValueError(
            f"{path} is a GGUF file, whose weights are quantised; pippin reads weights in "
            f"float32, float16 or bfloat16: give the original file ({SUPPORTED})"
        )


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from error


def _read_shards(path: Path) -> dict[str, Tensor]:
    files = shards(path)
    if missing := [file.name for file in files if not file.is_file()]:
        raise ValueError(f"{path} names missing files: {', '.join(missing)}")
    tensors = {name: value for file in files for name, value in read_tensors(file).items()}
    if missing := sorted(set(_weight_map(path)) - set(tensors)):
        raise ValueError(
            f"{path} names {len(missing)} tensors that its files lack, such as {missing[0]}: "
            "download the files again"
        )
    return tensors


def _read_pickled(path: Path) -> Any:
    """Load with ``weights_only``; argparse.Namespace, which DiT's checkpoints hold, is allowed:
    it holds plain values."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        match = re.search(r"Unsupported (?:global|class)[^.]*", str(error))
        if match is None:
            raise ValueError(f"{path} is damaged or not a torch.save file") from error
        raise ValueError(
            f"{path} holds more than weights, and loading that would run code from it, which "
            f"pippin never does ({match[0]}). If you trust the file, load it yourself and "
            "save only its weights: safetensors.torch.save_file(state, 'weights.safetensors')"
        ) from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(f"{path} is damaged or not a torch.save file: {error!r}") from error

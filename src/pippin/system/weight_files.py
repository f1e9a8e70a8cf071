# SPDX-License-Identifier: Apache-2.0
"""Weight files that others wrote, read without running code from them."""

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from pippin.system.json_text import parse_json
from pippin.system.regular import read_regular
from pippin.system.weight_folders import INDEX, file_names

PICKLED = (".pt", ".pth", ".ckpt", ".bin")
READ = f".safetensors, .safetensors.index.json, {', '.join(PICKLED)}, .bin.index.json"
"""Endings of files that are read, for messages."""
GGUF = b"GGUF"
"""First bytes of a file of quantised weights for llama.cpp."""
SAVED = (b"PK\x03\x04", b"\x80\x02")
"""First bytes of files of ``torch.save``, for those without one of these endings."""


def read_file(path: Path) -> Any:
    """What a file holds: tensors by name, or whatever else ``torch.save`` was given.

    Args:
        path: .safetensors, .pt, .pth, .ckpt, .bin, or an index of several .safetensors or .bin.

    Raises:
        ValueError: another type of file, a damaged one, or more than weights in it.
        FileNotFoundError: it is not there.
    """
    if path.is_dir():
        raise FileNotFoundError(
            f"{path} is a folder and no file; give a file of weights in it: {file_names(path)}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; give a file of weights")
    refuse_gguf(path)
    if INDEX.search(path.name):
        return _read_shards(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in PICKLED or _first_bytes(path).startswith(SAVED):
        return _read_pickled(path)
    raise ValueError(
        f"{path} has the ending {path.suffix or 'none'}; weights are read from {READ}"
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name, from a file that holds nothing else.

    Raises:
        ValueError: as :func:`read_file`, or something else than tensors by name.
        FileNotFoundError: it is not there.
    """
    content = read_file(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not weights by name")
    odd = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if odd:
        raise ValueError(f"{path} holds more than tensors by name: {', '.join(odd[:3])}")
    return {str(name): value for name, value in content.items()}


def stored_types(path: Path) -> dict[str, str]:
    """The type of each tensor of a file as :func:`read_file` takes it, as safetensors calls types
    ("F32", "F8_E4M3", "I8"). Of safetensors the header alone is read.

    Raises:
        ValueError: as :func:`read_tensors`.
        FileNotFoundError: it is not there.
    """
    files = shards(path) if INDEX.search(path.name) else [path]
    if any(one.suffix != ".safetensors" for one in files):
        return {name: type_name(value.dtype) for name, value in read_tensors(path).items()}
    return {name: kind for one in files for name, kind in _header(one).items()}


def type_name(dtype: torch.dtype) -> str:
    """What safetensors calls a type; torch's own name where safetensors has none."""
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


def _header(path: Path) -> dict[str, str]:
    """Type by tensor."""
    refuse_gguf(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error


def shards(index: Path) -> list[Path]:
    """The files that an index names.

    Raises:
        ValueError: it is damaged, or names files outside its folder.
    """
    try:
        names = set(_weight_map(index).values())
        inside = all(Path(name).name == name for name in names)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is damaged or no index of weight files: {error}") from error
    if not inside:
        raise ValueError(f"{index} names files outside its folder")
    return [index.parent / name for name in sorted(names)]


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor -> file."""
    return parse_json(read_regular(index))["weight_map"]


def refuse_gguf(path: Path) -> None:
    """Refuse weights of llama.cpp's format, whatever the file is called.

    Raises:
        ValueError: it is one.
    """
    if _first_bytes(path) == GGUF:
        raise ValueError(
            f"{path} is a GGUF file, whose weights are quantised; pippin reads weights in "
            f"float32, float16 or bfloat16: give the file that it was made of ({READ})"
        )


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error


def _read_shards(path: Path) -> dict[str, Tensor]:
    files = shards(path)
    if lacking := [one.name for one in files if not one.is_file()]:
        raise ValueError(f"{path} names files that are not there: {', '.join(lacking)}")
    found = {name: value for one in files for name, value in read_tensors(one).items()}
    if lost := sorted(set(_weight_map(path)) - set(found)):
        raise ValueError(
            f"{path} names {len(lost)} tensors that its files lack, such as {lost[0]}: fetch the "
            "files again"
        )
    return found


def _read_pickled(path: Path) -> Any:
    """With ``weights_only``; the options of a training script, which DiT's checkpoints hold, are
    plain values and pass too."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        needs = re.search(r"Unsupported (?:global|class)[^.]*", str(error))
        if needs is None:
            raise ValueError(f"{path} is damaged or no file of torch.save") from error
        raise ValueError(
            f"{path} holds more than weights, and loading that would run code from it, which "
            f"pippin never does ({needs[0]}). Where you trust the file, load it yourself and "
            "save its weights alone: safetensors.torch.save_file(state, 'weights.safetensors')"
        ) from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(f"{path} is damaged or no file of torch.save: {error!r}") from error

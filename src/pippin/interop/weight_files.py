# SPDX-License-Identifier: Apache-2.0
"""Reading the weight files of other implementations, without running code from them."""

import argparse
import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pippin.config import UNKNOWN_WEIGHTS
from pippin.interop.weight_kind import AVERAGED as AVERAGED_KIND
from pippin.interop.weight_kind import RAW as RAW_KIND
from pippin.interop.weight_kind import kind_of_entry

PICKLED = (".pt", ".pth", ".ckpt", ".bin")
INDEX_SUFFIX = ".safetensors.index.json"
AVERAGED = ("ema", "state_dict_ema", "model_ema")
"""What checkpoints call averaged weights; they are preferred."""
RAW = ("model", "state_dict", "module")
WRAPPERS = ("_orig_mod.", "module.", "_orig_mod.")
"""What compiled models and models under DDP have before all names."""
DENOISER, EMA = "model.diffusion_model.", "model_ema."
"""Of the denoiser in the checkpoint of a whole pipeline, and of averages there."""


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """Tensors by name, and what was chosen and left out to get them."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()
    kind: str = UNKNOWN_WEIGHTS
    """raw, ema or unknown; see :mod:`pippin.interop.weight_kind`."""


def read_weights(path: Path, key: str | None = None) -> WeightFile:
    """The weights in a file.

    Args:
        path: .safetensors, an index of several of them, or .pt, .pth, .ckpt, .bin.
        key: the entry of a checkpoint that holds the weights; None = averaged weights where there
            are some.

    Raises:
        ValueError: another type of file, damaged, more than weights in it, or no weights in it.
        FileNotFoundError: it is not there.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; give a file of weights")
    if path.name.endswith(INDEX_SUFFIX):
        content: Any = _read_shards(path)
    elif path.suffix == ".safetensors":
        content = _read_safetensors(path)
    elif path.suffix in PICKLED:
        content = _read_pickled(path)
    else:
        raise ValueError(
            f"{path} has the ending {path.suffix or 'none'}; weights are read from .safetensors, "
            f"{INDEX_SUFFIX}, {', '.join(PICKLED)}"
        )
    return _without_prefix(*_unwrapped(path, content, key))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error


def _read_shards(path: Path) -> dict[str, Tensor]:
    try:
        names = set(json.loads(path.read_bytes())["weight_map"].values())
        inside = all(Path(name).name == name for name in names)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged or no index of safetensors files: {error}") from error
    if not inside:
        raise ValueError(f"{path} names files outside its folder")
    shards = [_read_safetensors(path.parent / name) for name in sorted(names)]
    return {name: tensor for shard in shards for name, tensor in shard.items()}


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


def _unwrapped(
    path: Path, content: Any, key: str | None, entry: str = "", beside: tuple[str, ...] = ()
) -> tuple[Mapping[str, Tensor], tuple[str, ...], str]:
    """The entry of a checkpoint that holds weights, a note on the choice, and the weights' kind.

    Entry and what lies beside it are those of the levels above.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not weights by name")
    if key is None and content and all(isinstance(v, Tensor) for v in content.values()):
        return content, (), kind_of_entry(entry, beside, path.name)
    holders = [str(name) for name, value in content.items() if isinstance(value, Mapping)]
    wanted = [key] if key is not None else [k for k in (*AVERAGED, *RAW) if k in holders]
    for name in wanted:
        found = content.get(name)
        if isinstance(found, Mapping):
            others = sorted(str(one) for one in content if one != name)
            entry, beside = f"{entry}.{name}", (*beside, *others)
            if any(isinstance(value, Mapping) for value in found.values()):
                return _unwrapped(path, found, None, entry, beside)
            tensors = {k: v for k, v in found.items() if isinstance(v, Tensor)}
            if tensors:
                note = f"of its entries, {name!r} was taken; left out: {', '.join(others)}"
                kind = kind_of_entry(entry, beside, path.name)
                return tensors, (note,) if others else (), kind
    raise ValueError(
        f"{path} holds no weights under {' or '.join(map(repr, wanted or (*AVERAGED, *RAW)))}; "
        f"its entries: {', '.join(sorted(map(str, content))) or 'none'}"
    )


def _without_prefix(
    tensors: Mapping[str, Tensor], notes: tuple[str, ...], kind: str
) -> WeightFile:
    for prefix in WRAPPERS:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    inner = [name for name in tensors if name.startswith(DENOISER)]
    if not inner:
        return WeightFile(tensors=dict(tensors), notes=notes, kind=kind)
    names = {name.removeprefix(DENOISER): name for name in inner}
    averaged = {name: _averaged_name(name) for name in names}
    if all(name in tensors for name in averaged.values()):
        names, notes = averaged, (*notes, f"the averaged weights, {EMA}..., were taken")
        kind = AVERAGED_KIND
    elif any(name.startswith(EMA) for name in tensors):
        notes = (*notes, f"averaged weights, {EMA}..., lie beside, but not of all tensors")
        kind = RAW_KIND
    if others := len(tensors) - len(names):
        notes = (*notes, f"{others} other tensors of the file were left out")
    tensors = {name: tensors[theirs] for name, theirs in names.items()}
    return WeightFile(tensors=tensors, notes=notes, kind=kind)


def _averaged_name(name: str) -> str:
    """What latent diffusion's code calls the average of a tensor of the denoiser."""
    return EMA + f"diffusion_model.{name}".replace(".", "")

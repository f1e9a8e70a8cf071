# SPDX-License-Identifier: Apache-2.0
"""The weights of one network in a file of another implementation, whatever lies around them."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from pippin.interop.weight_kind import AVERAGED, kind_of_entry
from pippin.interop.wrappers import (
    FLAT,
    LITEMA,
    PLAIN,
    Candidate,
    choose,
    entries,
    find_candidates,
    unnamed_averages,
)
from pippin.system.weight_checks import dequantised, listed, refuse_quantised
from pippin.system.weight_files import read_file, type_name

SETTINGS = ("args", "config", "cfg", "hparams", "hyper_parameters", "opts", "options")
"""Entries of checkpoints that hold the settings of a training script."""


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """Tensors by name, and what was chosen and left out to get them."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()
    entry: str = ""
    """What was taken, as ``--key`` would name it: ``ema``, ``state_dict.ema_model``; empty = the
    file itself."""
    averaged: bool = False
    """Whether that name says that the weights are averaged ones."""
    beside: tuple[str, ...] = ()
    """Names of the other entries on the way there, and of other prefixes in the last one."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the training script, where the checkpoint holds them."""
    file: str = ""
    """The file's name, which may say what the weights are."""

    @property
    def kind(self) -> str:
        """raw, ema or unknown; see :mod:`pippin.interop.weight_kind`."""
        return AVERAGED if self.averaged else kind_of_entry(self.entry, self.beside, self.file)


def read_weights(path: Path, wanted: Sequence[str], key: str | None = None) -> WeightFile:
    """The weights of a network in a file.

    Args:
        path: .safetensors, .pt, .pth, .ckpt, .bin, or an index of several .safetensors or .bin.
        wanted: names of tensors by which the network is found, under whatever prefix.
        key: the entry of a checkpoint, or the prefix of names, that holds the weights; None =
            averaged weights where there are some.

    Raises:
        ValueError: another type of file, a damaged one, more than weights in it, weights that are
            quantised in a way that is not read, or none of this network; what is there is named.
        FileNotFoundError: it is not there.
    """
    content = read_file(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not weights by name")
    try:
        candidates = find_candidates(content, wanted)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    taken = choose(candidates, key, str(path))
    if taken is None:
        raise ValueError(f"{path} {_reason(content, candidates, wanted, key, str(path))}")
    if key is None and not taken.averaged and (lists := unnamed_averages(content)):
        advice = taken.name and f"; --key {taken.name} takes the raw ones, which have names"
        raise ValueError(
            f"{path} holds averaged weights under {lists[0]!r} as a list without names, which "
            f"cannot be put in their places{advice}"
        )
    tensors, notes = dequantised(taken.tensors, str(path))
    beside = tuple(_beside(content, candidates, taken))
    if key is None and not taken.averaged and LITEMA.rstrip(".") in beside:
        notes = (f"averaged weights, {LITEMA}..., lie beside, but not of all tensors", *notes)
    return WeightFile(
        tensors=tensors,
        notes=(*_choice(content, candidates, taken), *notes),
        entry=taken.name,
        averaged=taken.averaged,
        beside=beside,
        settings=dict(_settings(content)),
        file=path.name,
    )


def _choice(
    content: Mapping[Any, Any], candidates: Sequence[Candidate], taken: Candidate
) -> Iterator[str]:
    """What was taken, and what else there is."""
    others = sorted(str(one) for one in content if str(one) not in taken.path[:1])
    if taken.path and others:
        entry = ".".join(taken.path)
        yield f"of its entries, {entry!r} was taken; left out: {', '.join(others)}"
    if not PLAIN.match(taken.prefix):
        kind = "averaged weights" if taken.averaged else "weights"
        yield f"the {kind} under {taken.prefix!r} were taken"
    if prefixes := [repr(one.prefix or "no prefix") for one in _alike(candidates, taken)]:
        yield f"the same network's weights under {', '.join(prefixes)} were left out"
    if taken.others:
        yield f"{taken.others} other tensors of the file were left out"
    if taken.raw:
        yield f"{len(taken.raw)} tensors have no average, so the raw ones: {listed([*taken.raw])}"


def _alike(candidates: Sequence[Candidate], taken: Candidate) -> list[Candidate]:
    """The same network under other prefixes of one entry's names."""
    same = [one for one in candidates if one.path == taken.path]
    return [one for one in same if one.prefix != taken.prefix]


def _beside(
    content: Mapping[Any, Any], candidates: Sequence[Candidate], taken: Candidate
) -> Iterator[str]:
    """What lies beside the entry that was taken, at each level of its path."""
    for part in taken.path:
        inner = {str(name): value for name, value in content.items()}
        yield from sorted(set(inner) - {part})
        content = inner[part]
    if any(str(name).startswith(LITEMA) for name in content):
        yield LITEMA.rstrip(".")
    for one in _alike(candidates, taken):
        yield one.prefix.rstrip(".")


def _reason(
    content: Mapping[Any, Any],
    candidates: Sequence[Candidate],
    wanted: Sequence[str],
    key: str | None,
    where: str,
) -> str:
    """Why no weights were found, with the names that are there."""
    if key is not None and candidates:
        places = ", ".join(one.name or "the file itself" for one in candidates)
        return (
            f"holds no weights under {key!r}; its entries: {_names(content)}; the weights are "
            f"under: {places}"
        )
    tensors = {
        ".".join((*path, str(name))): value
        for path, mapping in entries(content)
        for name, value in mapping.items()
        if isinstance(value, Tensor)
    }
    refuse_quantised({name: type_name(value.dtype) for name, value in tensors.items()}, where)
    if any(FLAT in name for name in tensors):
        return (
            "holds weights that FSDP has flattened into one tensor; save the full state dict "
            "instead: torch.distributed.checkpoint.state_dict.get_model_state_dict with "
            "StateDictOptions(full_state_dict=True)"
        )
    if lists := unnamed_averages(content):
        return (
            f"holds weights under {lists[0]!r} as a list without names, which cannot be put in "
            "their places, and no others"
        )
    if not tensors:
        return f"holds no weights; its entries: {_names(content)}"
    inner = f"; its entries: {_names(content)}" if any(map(_is_entry, content.values())) else ""
    return (
        f"holds no weights of this network: none of its {len(tensors)} tensors is called "
        f"{' or '.join(wanted)}, with any prefix. There are: {listed(sorted(tensors))}{inner}"
    )


def _is_entry(value: Any) -> bool:
    return isinstance(value, Mapping)


def _names(content: Mapping[Any, Any]) -> str:
    return ", ".join(sorted(map(str, content))) or "none"


def _settings(content: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Plain values of a training script's settings, those of a section within them too."""
    for name in SETTINGS:
        value = content.get(name)
        found = vars(value) if isinstance(value, argparse.Namespace) else value
        if not isinstance(found, Mapping):
            continue
        for _, section in entries(found):
            yield from (
                (str(key), one)
                for key, one in section.items()
                if isinstance(one, (str, int, float, bool))
            )

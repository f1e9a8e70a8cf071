# SPDX-License-Identifier: Apache-2.0
"""Reader of one network's weights in checkpoint files of other implementations."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from pippin.interop.wrappers import (
    AVERAGED,
    FLAT,
    LITEMA,
    PLAIN,
    Candidate,
    choose,
    entries,
    find_candidates,
    kind_of_entry,
    unnamed_averages,
)
from pippin.system.weight_checks import dequantise, join_names, refuse_quantised
from pippin.system.weight_files import read_file, type_name

SETTINGS = ("args", "config", "cfg", "hparams", "hyper_parameters", "opts", "options")
"""Checkpoint entries that hold the settings of a training script."""


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """Weights of a file, and the choices made to find them."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()
    entry: str = ""
    """Entry of the weights, as ``--key`` names it: ``ema``, ``state_dict.ema_model``; empty = the
    file itself."""
    averaged: bool = False
    """True if that name says that the weights are averaged."""
    siblings: tuple[str, ...] = ()
    """Names of the other entries at each level of its path, and of other prefixes in it."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the training script, if the checkpoint contains them."""
    file: str = ""
    """File name, which may contain the kind of the weights."""

    @property
    def kind(self) -> str:
        """Kind of the weights: raw, ema or unknown; see :mod:`pippin.interop.wrappers`."""
        return AVERAGED if self.averaged else kind_of_entry(self.entry, self.siblings, self.file)


def read_weights(path: Path, anchors: Sequence[str], key: str | None = None) -> WeightFile:
    """Read the weights of a network from a file.

    Args:
        path: .safetensors, .pt, .pth, .ckpt, .bin, or an index of several .safetensors or .bin.
        anchors: names of tensors that locate the network, under any prefix.
        key: the entry of a checkpoint, or the prefix of names, that holds the weights; None =
            averaged weights if there are any.

    Raises:
        ValueError: an unsupported or damaged file, a file with pickled code, unsupported
            quantisation, or no weights of this network; the content is named.
        FileNotFoundError: no such file.
    """
    content = read_file(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not weights by name")
    try:
        candidates = find_candidates(content, anchors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    chosen = choose(candidates, key, str(path))
    if chosen is None:
        raise ValueError(f"{path} {_missing_reason(content, candidates, anchors, key, str(path))}")
    if key is None and not chosen.averaged and (unnamed := unnamed_averages(content)):
        advice = chosen.name and f"; --key {chosen.name} takes the raw ones, which have names"
        raise ValueError(
            f"{path} holds averaged weights under {unnamed[0]!r} as a list without names, which "
            f"cannot be assigned{advice}"
        )
    tensors, notes = dequantise(chosen.tensors, str(path))
    siblings = tuple(_siblings(content, candidates, chosen))
    if key is None and not chosen.averaged and LITEMA.rstrip(".") in siblings:
        notes = (f"averaged weights, {LITEMA}..., exist for some tensors only: skipped", *notes)
    return WeightFile(
        tensors=tensors,
        notes=(*_choice(content, candidates, chosen), *notes),
        entry=chosen.name,
        averaged=chosen.averaged,
        siblings=siblings,
        settings=dict(_script_settings(content)),
        file=path.name,
    )


def _choice(
    content: Mapping[Any, Any], candidates: Sequence[Candidate], chosen: Candidate
) -> Iterator[str]:
    """Notes on the chosen and the skipped entries."""
    others = sorted(
        str(entry_name) for entry_name in content if str(entry_name) not in chosen.path[:1]
    )
    if chosen.path and others:
        entry = ".".join(chosen.path)
        yield f"of its entries, {entry!r} was read; skipped: {', '.join(others)}"
    if not PLAIN.match(chosen.prefix):
        kind = "averaged weights" if chosen.averaged else "weights"
        yield f"the {kind} under {chosen.prefix!r} were read"
    if prefixes := [
        repr(entry_name.prefix or "no prefix")
        for entry_name in _other_prefixes(candidates, chosen)
    ]:
        yield f"the same network's weights under {', '.join(prefixes)} were skipped"
    if chosen.others:
        yield f"{chosen.others} other tensors of the file were skipped"
    if chosen.raw:
        raw = join_names([*chosen.raw])
        yield f"{len(chosen.raw)} tensors have no average, so the raw ones were read: {raw}"


def _other_prefixes(candidates: Sequence[Candidate], chosen: Candidate) -> list[Candidate]:
    """Candidates of the same entry under other prefixes."""
    candidates_of_entry = [candidate for candidate in candidates if candidate.path == chosen.path]
    return [candidate for candidate in candidates_of_entry if candidate.prefix != chosen.prefix]


def _siblings(
    content: Mapping[Any, Any], candidates: Sequence[Candidate], chosen: Candidate
) -> Iterator[str]:
    """Siblings of the chosen entry, at each level of its path."""
    for part in chosen.path:
        inner = {str(name): value for name, value in content.items()}
        yield from sorted(set(inner) - {part})
        content = inner[part]
    if any(str(name).startswith(LITEMA) for name in content):
        yield LITEMA.rstrip(".")
    for candidate in _other_prefixes(candidates, chosen):
        yield candidate.prefix.rstrip(".")


def _missing_reason(
    content: Mapping[Any, Any],
    candidates: Sequence[Candidate],
    anchors: Sequence[str],
    key: str | None,
    where: str,
) -> str:
    """Message for missing weights, with the names in the file."""
    if key is not None and candidates:
        keys = ", ".join(candidate.name or "the file itself" for candidate in candidates)
        return (
            f"holds no weights under {key!r}; its entries: {_names(content)}; the weights are "
            f"under: {keys}"
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
    if unnamed := unnamed_averages(content):
        return (
            f"holds weights under {unnamed[0]!r} as a list without names, which cannot be "
            "assigned, and no others"
        )
    if not tensors:
        return f"holds no weights; its entries: {_names(content)}"
    inner = f"; its entries: {_names(content)}" if any(map(_is_entry, content.values())) else ""
    return (
        f"holds no weights of this network: none of its {len(tensors)} tensors is called "
        f"{' or '.join(anchors)}, with any prefix. There are: {join_names(sorted(tensors))}{inner}"
    )


def _is_entry(value: Any) -> bool:
    return isinstance(value, Mapping)


def _names(content: Mapping[Any, Any]) -> str:
    return ", ".join(sorted(map(str, content))) or "none"


def _script_settings(content: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Plain values of a training script's settings, including nested sections."""
    for name in SETTINGS:
        value = content.get(name)
        settings = vars(value) if isinstance(value, argparse.Namespace) else value
        if not isinstance(settings, Mapping):
            continue
        for _, section in entries(settings):
            yield from (
                (str(key), setting)
                for key, setting in section.items()
                if isinstance(setting, (str, int, float, bool))
            )

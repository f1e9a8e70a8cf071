# SPDX-License-Identifier: Apache-2.0
"""Where in a checkpoint the tensors of a network are, and under which prefix.

Training code wraps networks: DDP, FSDP, activation checkpointing and ``torch.compile`` put words
into names, Lightning and ema-pytorch put the network under an attribute, and averages stand in an
entry of their own or beside the raw weights. The network is found by the names of a few of its
tensors, whatever stands before them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

WRAPPERS = frozenset(
    ("_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module", "_orig_mod")
)
"""Parts of names that FSDP, activation checkpointing and torch.compile add, at any place."""
PLAIN = re.compile(r"^((module|_forward_module)\.)*$")
"""Prefixes that say nothing of what the weights are: of DDP and of Lightning's strategies."""
AVERAGED = re.compile(r"(^|_)(ema|averaged?|shadow|swa)\d*(_|$)", re.IGNORECASE)
"""In an entry's or prefix's name: averaged weights."""
OPTIMIZER = re.compile(r"^opt$|(^|_)optim|exp_avg|momentum", re.IGNORECASE)
"""An entry with numbers of the optimizer, which may go by the names of the weights."""
ONLINE = ("online_model", "online")
"""What ema-pytorch calls the raw weights beside the average."""
ORDER = ("ema", "state_dict_ema", "model_ema", "model", "state_dict", "module")
"""Entries that are taken before others of their kind."""
LITEMA = "model_ema."
"""Before averages in latent diffusion's code, whose names have lost their dots."""
COUNTER = "n_averaged"
"""Beside the weights of torch's AveragedModel."""
FLAT = "flat_param"
DEPTH = 6
"""Entries within entries that are looked into."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Tensors of the network, at one place of a checkpoint."""

    path: tuple[str, ...]
    """Entries, the outermost first."""
    prefix: str
    """Before the network's names."""
    tensors: dict[str, Tensor]
    """Under the network's names."""
    averaged: bool
    others: int = 0
    """Tensors of the same entry that are not under the prefix."""
    raw: tuple[str, ...] = ()
    """Tensors of the network that have no average, so that the raw ones stand in."""

    @property
    def name(self) -> str:
        """As ``--key`` takes it; empty = the file itself."""
        prefix = "" if PLAIN.match(self.prefix) else self.prefix.rstrip(".")
        return ".".join(part for part in (*self.path, prefix) if part)


def entries(
    content: Mapping[Any, Any], path: tuple[str, ...] = (), seen: frozenset[int] = frozenset()
) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """All mappings inside a checkpoint but the optimizer's, with their places."""
    if id(content) in seen or len(path) > DEPTH:
        return
    yield path, content
    for key, value in content.items():
        if isinstance(value, Mapping) and not OPTIMIZER.search(str(key)):
            yield from entries(value, (*path, str(key)), seen | {id(content)})


def find_candidates(content: Mapping[Any, Any], wanted: Sequence[str]) -> list[Candidate]:
    """Each place of a checkpoint where all wanted tensors are.

    Args:
        content: of the checkpoint.
        wanted: names of tensors of the network.

    Raises:
        ValueError: two tensors whose names differ in wrappers only.
    """
    found: list[Candidate] = []
    for path, mapping in entries(content):
        tensors = _unwrapped({str(k): v for k, v in mapping.items() if isinstance(v, Tensor)})
        found += _of_entry(path, tensors, wanted)
    return found


def _unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the parts of names that wrappers add."""
    found = {}
    for name, value in tensors.items():
        plain = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        if plain in found:
            raise ValueError(f"two tensors are called {plain}, apart from what wraps them")
        found[plain] = value
    return found


def _of_entry(
    path: tuple[str, ...], tensors: Mapping[str, Tensor], wanted: Sequence[str]
) -> Iterator[Candidate]:
    """The network under each prefix of one entry's names."""
    ends = [name.removesuffix(wanted[0]) for name in tensors if name.endswith(wanted[0])]
    prefixes = [
        one
        for one in ends
        if (not one or one.endswith(".")) and all(one + name in tensors for name in wanted)
    ]
    for prefix in prefixes:
        inner = [one for one in (*prefixes, LITEMA) if len(one) > len(prefix)]
        names = {
            name.removeprefix(prefix): name
            for name in tensors
            if name.startswith(prefix)
            and not any(one.startswith(prefix) and name.startswith(one) for one in inner)
        }
        parts = (*path, *prefix.rstrip(".").split("."))
        averaged = any(map(AVERAGED.search, parts)) and not set(parts) & set(ONLINE)
        yield Candidate(
            path=path,
            prefix=prefix,
            tensors={name: tensors[theirs] for name, theirs in names.items()},
            averaged=averaged or (prefix.startswith("module.") and COUNTER in tensors),
            others=len(tensors) - len(names),
        )
        yield from _litema(path, prefix, names, tensors, wanted)


def _litema(
    path: tuple[str, ...],
    prefix: str,
    names: Mapping[str, str],
    tensors: Mapping[str, Tensor],
    wanted: Sequence[str],
) -> Iterator[Candidate]:
    """The averages beside the weights under a prefix, where latent diffusion's code wrote them.

    It averages what is trained; a table that is not keeps its one value.
    """
    inside = prefix.removeprefix("model.")
    averages = {name: LITEMA + f"{inside}{name}".replace(".", "") for name in names}
    if not all(averages[name] in tensors for name in wanted):
        return
    raw = tuple(sorted(name for name, theirs in averages.items() if theirs not in tensors))
    taken = {name: averages[name] if name not in raw else names[name] for name in names}
    yield Candidate(
        path=path,
        prefix=LITEMA,
        tensors={name: tensors[theirs] for name, theirs in taken.items()},
        averaged=True,
        others=len(tensors) - len(taken),
        raw=raw,
    )


def unnamed_averages(content: Mapping[Any, Any]) -> list[str]:
    """Entries that hold averaged weights as a list, which says nothing of names."""
    return [
        ".".join((*path, str(key)))
        for path, mapping in entries(content)
        for key, value in mapping.items()
        if isinstance(value, (list, tuple))
        and any(isinstance(one, Tensor) for one in value)
        and any(map(AVERAGED.search, (*path, str(key))))
    ]


def choose(candidates: Sequence[Candidate], key: str | None, where: str) -> Candidate | None:
    """The one to take: of the entry that is asked for, averaged weights before raw ones.

    Args:
        candidates: all there are.
        key: of the entry or prefix; None = any.
        where: they are, for the message.

    Returns:
        None where there is none of that key.

    Raises:
        ValueError: several, of which none comes before the others; they are named.
    """
    pool = [one for one in candidates if key is None or f".{key}." in f".{one.name}."]
    pool = [one for one in pool if key and f"{one.name}.".startswith(f"{key}.")] or pool
    pool = [one for one in pool if one.averaged] or pool
    if not pool:
        return None
    best = min(map(_rank, pool))
    first, *more = [one for one in pool if _rank(one) == best]
    if more:
        kind = "averaged" if first.averaged else "raw"
        listed = " or ".join(f"--key {one.name}" for one in (first, *more))
        raise ValueError(f"{where} holds {kind} weights at several places; choose one: {listed}")
    return first


def _rank(candidate: Candidate) -> int:
    first = candidate.name.partition(".")[0]
    if not first:
        return -1
    return ORDER.index(first) if first in ORDER else len(ORDER)

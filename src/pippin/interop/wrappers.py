# SPDX-License-Identifier: Apache-2.0
"""A network's tensors in a checkpoint: search in any entry, and the kind of weights.

Training code wraps networks: DDP, FSDP, activation checkpointing and ``torch.compile`` add parts
to names, Lightning and ema-pytorch put the network under an attribute, and averages have an entry
of their own or are beside the raw weights. The network is located by the names of a few of its
tensors, under any prefix.

The kind of the weights, raw or averaged, follows from the names of entries and files. Nothing is
guessed: without such a name the kind is unknown.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pippin.settings.weights import UNKNOWN_WEIGHTS, WEIGHTS

RAW, AVERAGED = "raw", "ema"
KIND_KEY = "pippin_weights"
"""Metadata key of the kind of weights that pippin exported to diffusers."""
EMA_SUFFIX = "_ema"
"""Suffix of the folder in which diffusers' training scripts keep averaged weights."""
_TRAINING = re.compile(r"(opt|optim|optimizer|optimizers|grad_scaler)(_|$)|lr_scheduler")
"""Pattern of entries that only training scripts write, beside raw weights."""


def is_averaged_name(name: str) -> bool:
    """True if a name denotes averaged weights: ema, state_dict_ema, shadow_params, ..."""
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    return bool({"ema", "emaonly", "shadow"} & words) and not {"non", "no"} & words


def kind_of_entry(entry: str, siblings: Iterable[str], file: str = "") -> str:
    """Kind of the weights under an entry of a checkpoint.

    Args:
        entry: its name, or its dotted path; empty = the whole file.
        siblings: names of the other entries, at all levels of that path.
        file: name of the file.

    Returns:
        ema if a name of the path says so; raw if a sibling holds averaged weights; otherwise ema
        if the file name says so, raw if a sibling holds training state, else unknown.
    """
    others = list(siblings)
    if any(map(is_averaged_name, entry.split("."))):
        return AVERAGED
    if any(map(is_averaged_name, others)):
        return RAW
    if is_averaged_name(file):
        return AVERAGED
    return RAW if any(map(_TRAINING.match, others)) else UNKNOWN_WEIGHTS


def kind_of_folder(folder: Path, weights: Path, config: Mapping[str, Any]) -> str:
    """Kind of the weights in a folder of a diffusers model.

    Args:
        folder: folder of the model.
        weights: file in it that is read.
        config: its config.json, to which diffusers' EMAModel adds its settings.
    """
    exported = _exported_kind(weights)
    if exported is not None:
        return exported
    name = weights.name
    if ".non_ema." in name or averaged_sibling(folder) is not None:
        return RAW
    averaged = folder.name.endswith(EMA_SUFFIX) or {"decay", "optimization_step"} <= set(config)
    if averaged or ".ema." in name or any(folder.glob("*.non_ema.*")):
        return AVERAGED
    return UNKNOWN_WEIGHTS


def average_of_config(config: Mapping[str, Any]) -> str | None:
    """Decay of the average in a folder of averaged weights, if its config.json has it."""
    decay = config.get("decay")
    return f"decay {decay:g}" if isinstance(decay, float) else None


def averaged_sibling(folder: Path) -> Path | None:
    """Folder or file with averaged weights beside the raw weights of a folder, if any."""
    other = folder.parent / f"{folder.name}{EMA_SUFFIX}"
    if not folder.name.endswith(EMA_SUFFIX) and (other / "config.json").is_file():
        return other
    return next(iter(sorted(folder.glob("*.ema.*"))), None)


def _exported_kind(weights: Path) -> str | None:
    """Kind that pippin wrote into the file's metadata on export, if any."""
    if weights.suffix != ".safetensors":
        return None
    try:
        with safe_open(weights, framework="pt") as file:
            kind = (file.metadata() or {}).get(KIND_KEY, "")
    except SafetensorError:  # the reader of its tensors reports it
        return None
    return kind if WEIGHTS.fullmatch(kind) else None


WRAPPERS = frozenset(
    ("_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module", "_orig_mod")
)
"""Parts of names that FSDP, activation checkpointing and torch.compile add, at any position."""
PLAIN = re.compile(r"^((module|_forward_module)\.)*$")
"""Prefixes of DDP and of Lightning's strategies, which do not identify the weights."""
AVERAGED_ENTRY = re.compile(r"(^|_)(ema|averaged?|shadow|swa)\d*(_|$)", re.IGNORECASE)
"""Pattern of an entry's or prefix's name that denotes averaged weights."""
OPTIMIZER = re.compile(r"^opt$|(^|_)optim|exp_avg|momentum", re.IGNORECASE)
"""Pattern of entries with optimizer state, which may have the names of the weights."""
ONLINE = ("online_model", "online")
"""ema-pytorch's names of the raw weights beside the average."""
ORDER = ("ema", "state_dict_ema", "model_ema", "model", "state_dict", "module")
"""Entries that are preferred over others of their kind, in order."""
LITEMA = "model_ema."
"""Prefix of averages in latent diffusion's code, whose names have no dots."""
COUNTER = "n_averaged"
"""Counter beside the weights of torch's AveragedModel."""
FLAT = "flat_param"
DEPTH = 6
"""Largest depth of nested entries that are searched."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Tensors of the network in one entry of a checkpoint."""

    path: tuple[str, ...]
    """Path of entries, outermost first."""
    prefix: str
    """Prefix of the network's names."""
    tensors: dict[str, Tensor]
    """Tensors under the network's names."""
    averaged: bool
    others: int = 0
    """Number of tensors of the same entry that are not under the prefix."""
    raw: tuple[str, ...] = ()
    """Tensors of the network that have no average and are replaced by the raw ones."""

    @property
    def name(self) -> str:
        """Name for ``--key``; empty = the file itself."""
        prefix = "" if PLAIN.match(self.prefix) else self.prefix.rstrip(".")
        return ".".join(part for part in (*self.path, prefix) if part)


def entries(
    content: Mapping[Any, Any], path: tuple[str, ...] = (), seen: frozenset[int] = frozenset()
) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """All mappings inside a checkpoint except the optimizer's, with their paths."""
    if id(content) in seen or len(path) > DEPTH:
        return
    yield path, content
    for key, value in content.items():
        if isinstance(value, Mapping) and not OPTIMIZER.search(str(key)):
            yield from entries(value, (*path, str(key)), seen | {id(content)})


def find_candidates(content: Mapping[Any, Any], anchors: Sequence[str]) -> list[Candidate]:
    """Entries and prefixes of a checkpoint that contain all anchor tensors.

    Args:
        content: content of the checkpoint.
        anchors: names of tensors of the network.

    Raises:
        ValueError: two tensors whose names differ only in wrappers.
    """
    candidates: list[Candidate] = []
    for path, mapping in entries(content):
        tensors = _unwrapped({str(k): v for k, v in mapping.items() if isinstance(v, Tensor)})
        candidates += _entry_candidates(path, tensors, anchors)
    return candidates


def _unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without the parts of names that wrappers add."""
    unwrapped = {}
    for name, value in tensors.items():
        plain = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        if plain in unwrapped:
            raise ValueError(f"two tensors are called {plain}, apart from their wrappers")
        unwrapped[plain] = value
    return unwrapped


def _entry_candidates(
    path: tuple[str, ...], tensors: Mapping[str, Tensor], anchors: Sequence[str]
) -> Iterator[Candidate]:
    """Candidates for each prefix of one entry's names."""
    candidates = [name.removesuffix(anchors[0]) for name in tensors if name.endswith(anchors[0])]
    prefixes = [
        text
        for text in candidates
        if (not text or text.endswith(".")) and all(text + name in tensors for name in anchors)
    ]
    for prefix in prefixes:
        longer = [other for other in (*prefixes, LITEMA) if len(other) > len(prefix)]
        names = {
            name.removeprefix(prefix): name
            for name in tensors
            if name.startswith(prefix)
            and not any(other.startswith(prefix) and name.startswith(other) for other in longer)
        }
        parts = (*path, *prefix.rstrip(".").split("."))
        averaged = any(map(AVERAGED_ENTRY.search, parts)) and not set(parts) & set(ONLINE)
        yield Candidate(
            path=path,
            prefix=prefix,
            tensors={name: tensors[full_name] for name, full_name in names.items()},
            averaged=averaged or (prefix.startswith("module.") and COUNTER in tensors),
            others=len(tensors) - len(names),
        )
        yield from _litema_candidates(path, prefix, names, tensors, anchors)


def _litema_candidates(
    path: tuple[str, ...],
    prefix: str,
    names: Mapping[str, str],
    tensors: Mapping[str, Tensor],
    anchors: Sequence[str],
) -> Iterator[Candidate]:
    """Candidate of the averages that latent diffusion's code writes beside the weights.

    It averages trained tensors only; others have no average.
    """
    inner_prefix = prefix.removeprefix("model.")
    averages = {name: LITEMA + f"{inner_prefix}{name}".replace(".", "") for name in names}
    if not all(averages[name] in tensors for name in anchors):
        return
    raw = tuple(sorted(name for name, full_name in averages.items() if full_name not in tensors))
    chosen = {name: averages[name] if name not in raw else names[name] for name in names}
    yield Candidate(
        path=path,
        prefix=LITEMA,
        tensors={name: tensors[full_name] for name, full_name in chosen.items()},
        averaged=True,
        others=len(tensors) - len(chosen),
        raw=raw,
    )


def unnamed_averages(content: Mapping[Any, Any]) -> list[str]:
    """Entries that hold averaged weights as a list, without names."""
    return [
        ".".join((*path, str(key)))
        for path, mapping in entries(content)
        for key, value in mapping.items()
        if isinstance(value, (list, tuple))
        and any(isinstance(item, Tensor) for item in value)
        and any(map(AVERAGED_ENTRY.search, (*path, str(key))))
    ]


def choose(candidates: Sequence[Candidate], key: str | None, where: str) -> Candidate | None:
    """Choose a candidate of the requested entry; averaged weights are preferred over raw ones.

    Args:
        candidates: all candidates.
        key: requested entry or prefix; None = any.
        where: name of the file, for messages.

    Returns:
        The candidate; None if there is none with that key.

    Raises:
        ValueError: several candidates of equal rank; they are named.
    """
    pool = [
        candidate for candidate in candidates if key is None or f".{key}." in f".{candidate.name}."
    ]
    pool = [
        candidate for candidate in pool if key and f"{candidate.name}.".startswith(f"{key}.")
    ] or pool
    pool = [candidate for candidate in pool if candidate.averaged] or pool
    if not pool:
        return None
    best_rank = min(map(_rank, pool))
    first, *others = [candidate for candidate in pool if _rank(candidate) == best_rank]
    if others:
        kind = "averaged" if first.averaged else "raw"
        listed = " or ".join(f"--key {candidate.name}" for candidate in (first, *others))
        raise ValueError(f"{where} holds {kind} weights in several entries; choose one: {listed}")
    return first


def _rank(candidate: Candidate) -> int:
    first = candidate.name.partition(".")[0]
    if not first:
        return -1
    return ORDER.index(first) if first in ORDER else len(ORDER)

# SPDX-License-Identifier: Apache-2.0
"""Tables that say which tensor of another implementation is which of ours.

A line of a table names one tensor of ours and those of theirs that make it up: several where ours
holds them stacked along the first axis, such as queries, keys and values. Values are never
computed with.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a table."""

    ours: str
    theirs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Converted:
    """Our tensors, and what did not fit."""

    tensors: dict[str, Tensor]
    unplaced: tuple[str, ...]
    """Their tensors that we have no place for."""
    missing: tuple[str, ...]
    """Our tensors that they do not have."""


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter by name."""
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def layers(ours: str, *theirs: str, shapes: Mapping[str, object]) -> Iterator[Entry]:
    """Weight and, where ours has one, bias of a layer."""
    for kind in ("weight", "bias"):
        if f"{ours}.{kind}" in shapes:
            names = tuple(f"{name}.{kind}" for name in theirs)
            yield Entry(ours=f"{ours}.{kind}", theirs=names)


def from_theirs(
    table: Iterable[Entry], state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> Converted:
    """Our tensors from theirs.

    Args:
        table: of the source.
        state: their tensors by name.
        shapes: of our tensors.

    Raises:
        ValueError: a tensor that is missing or has another number of elements; it is named.
    """
    tensors: dict[str, Tensor] = {}
    used: set[str] = set()
    for entry in table:
        value = _gathered(state, entry.theirs)
        shape = shapes[entry.ours]
        if value.numel() != torch.Size(shape).numel():
            raise ValueError(
                f"{', '.join(entry.theirs)} has shape {tuple(value.shape)}; this model wants "
                f"{shape} for it ({entry.ours}): give the arguments that they were made with"
            )
        tensors[entry.ours] = value.reshape(shape).clone()
        used.update(entry.theirs)
    return Converted(
        tensors=tensors,
        unplaced=tuple(sorted(set(state) - used)),
        missing=tuple(sorted(set(shapes) - set(tensors))),
    )


def _gathered(state: Mapping[str, Tensor], names: tuple[str, ...]) -> Tensor:
    absent = [name for name in names if name not in state]
    if absent:
        raise ValueError(
            f"the weights lack {', '.join(absent)}: they belong to another model, or to other "
            "arguments"
        )
    parts = [state[name] for name in names]
    return parts[0] if len(parts) == 1 else torch.cat(parts)

# SPDX-License-Identifier: Apache-2.0
"""Tables that say which tensor of another implementation is which of ours.

A line of a table names one tensor of ours and those of theirs that make it up: several where ours
holds them stacked along the first axis, such as queries, keys and values. Values are never
computed with, so that a table serves both ways without a loss.
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
    copies: tuple[str, ...] = ()
    """Further tensors of theirs with the same values."""
    swapped: bool = False
    """Theirs has the two halves along the first axis in the other order: scale before shift."""


@dataclass(frozen=True, kw_only=True)
class Converted:
    """Our tensors, and what did not fit."""

    tensors: dict[str, Tensor]
    unplaced: tuple[str, ...]
    """Their tensors that we have no place for."""
    missing: tuple[str, ...]
    """Our tensors that they do not have."""


Shapes = Mapping[str, tuple[int, ...]]
"""Of tensors, by name."""


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor that a model saves, by name."""
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def layers(
    ours: str,
    *theirs: str,
    shapes: Mapping[str, object],
    copies: tuple[str, ...] = (),
    swapped: bool = False,
) -> Iterator[Entry]:
    """Weight and, where ours has one, bias of a layer."""
    for kind in ("weight", "bias"):
        if f"{ours}.{kind}" in shapes:
            yield Entry(
                ours=f"{ours}.{kind}",
                theirs=tuple(f"{name}.{kind}" for name in theirs),
                copies=tuple(f"{name}.{kind}" for name in copies),
                swapped=swapped,
            )


def from_theirs(table: Iterable[Entry], state: Mapping[str, Tensor], shapes: Shapes) -> Converted:
    """Our tensors from theirs.

    Args:
        table: of the source.
        state: their tensors by name.
        shapes: of our tensors.

    Raises:
        ValueError: a tensor that is missing or has another number of elements, or copies that
            differ; they are named.
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
        for name in entry.copies:
            if not torch.equal(_gathered(state, (name,)), value):
                raise ValueError(
                    f"{name} and {entry.theirs[0]} differ; this model has one tensor for both "
                    f"({entry.ours}), so it cannot be what these weights are of"
                )
        value = _exchanged(value) if entry.swapped else value
        tensors[entry.ours] = value.reshape(shape).clone()
        used.update(entry.theirs, entry.copies)
    return Converted(
        tensors=tensors,
        unplaced=tuple(sorted(set(state) - used)),
        missing=tuple(sorted(set(shapes) - set(tensors))),
    )


def to_theirs(
    table: Iterable[Entry], tensors: Mapping[str, Tensor], shapes: Shapes
) -> dict[str, Tensor]:
    """Their tensors from ours: the inverse of :func:`from_theirs`.

    Args:
        table: of the source.
        tensors: ours by name.
        shapes: of theirs.

    Raises:
        ValueError: a tensor that has another number of elements; it is named.
    """
    state: dict[str, Tensor] = {}
    for entry in table:
        value = tensors[entry.ours]
        value = _exchanged(value) if entry.swapped else value
        sizes = [torch.Size(shapes[name]).numel() for name in entry.theirs]
        if sum(sizes) != value.numel():
            raise ValueError(
                f"{entry.ours} has shape {tuple(value.shape)} and does not fit into "
                f"{', '.join(entry.theirs)}"
            )
        parts = value.flatten().split(sizes)
        for name, part in zip(entry.theirs, parts, strict=True):
            state[name] = part.reshape(shapes[name]).clone()
        for name in entry.copies:
            state[name] = state[entry.theirs[0]].clone()
    return state


def _exchanged(value: Tensor) -> Tensor:
    """The second half along the first axis before the first."""
    first, second = value.chunk(2)
    return torch.cat([second, first])


def _gathered(state: Mapping[str, Tensor], names: tuple[str, ...]) -> Tensor:
    absent = [name for name in names if name not in state]
    if absent:
        raise ValueError(
            f"the weights lack {', '.join(absent)}: they belong to another model, or to other "
            "arguments"
        )
    parts = [state[name] for name in names]
    return parts[0] if len(parts) == 1 else torch.cat(parts)

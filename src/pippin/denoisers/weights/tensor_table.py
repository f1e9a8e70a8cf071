# SPDX-License-Identifier: Apache-2.0
"""Tables that map tensors of another implementation (the source) to pippin's.

An entry of a table names one tensor of pippin and the source tensors that it consists of: several
if pippin stacks them along the first axis, such as queries, keys and values. Values change at most
in order and sign, so a table converts in both directions without loss.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Entry of a table: pippin's tensor (the target) and the source tensors."""

    target: str
    sources: tuple[str, ...]
    copies: tuple[str, ...] = ()
    """Further source tensors with the same values."""
    swapped: bool = False
    """True if the source has the halves along the first axis in the other order: scale before
    shift."""
    negated: bool = False
    """True if the source has the values with the other sign: a velocity towards data."""


@dataclass(frozen=True, kw_only=True)
class Converted:
    """Converted tensors, and unmatched names."""

    tensors: dict[str, Tensor]
    unused_tensors: tuple[str, ...]
    """Source tensors without a counterpart in pippin."""
    missing: tuple[str, ...]
    """Tensors of pippin that the source lacks."""


Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of tensors, by name."""


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of a model's state dict, by name."""
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def layers(
    target: str,
    *sources: str,
    shapes: Mapping[str, object],
    copies: tuple[str, ...] = (),
    swapped: bool = False,
    negated: bool = False,
) -> Iterator[Entry]:
    """Entries of a layer's weight and, if it has one, bias."""
    for kind in ("weight", "bias"):
        if f"{target}.{kind}" in shapes:
            yield Entry(
                target=f"{target}.{kind}",
                sources=tuple(f"{name}.{kind}" for name in sources),
                copies=tuple(f"{name}.{kind}" for name in copies),
                swapped=swapped,
                negated=negated,
            )


def from_source(table: Iterable[Entry], state: Mapping[str, Tensor], shapes: Shapes) -> Converted:
    """Convert source tensors to pippin's.

    Args:
        table: table of the source.
        state: source tensors by name.
        shapes: shapes of pippin's tensors.

    Raises:
        ValueError: a tensor that is missing or has another number of elements, or copies that
            differ; they are named.
    """
    tensors: dict[str, Tensor] = {}
    used: set[str] = set()
    for entry in table:
        value = _gather(state, entry.sources)
        shape = shapes[entry.target]
        if value.numel() != torch.Size(shape).numel():
            raise ValueError(
                f"{', '.join(entry.sources)} has shape {tuple(value.shape)}; this model needs "
                f"{shape} ({entry.target}): give the arguments of the model that was trained"
            )
        for name in entry.copies:
            if not torch.equal(_gather(state, (name,)), value):
                raise ValueError(
                    f"{name} and {entry.sources[0]} differ; this model has one tensor for both "
                    f"({entry.target}), so these weights are of another model"
                )
        value = _changed(entry, value)
        tensors[entry.target] = value.reshape(shape).clone()
        used.update(entry.sources, entry.copies)
    return Converted(
        tensors=tensors,
        unused_tensors=tuple(sorted(set(state) - used)),
        missing=tuple(sorted(set(shapes) - set(tensors))),
    )


def to_source(
    table: Iterable[Entry], tensors: Mapping[str, Tensor], shapes: Shapes
) -> dict[str, Tensor]:
    """Convert pippin's tensors to the source's: the inverse of :func:`from_source`.

    Args:
        table: table of the source.
        tensors: pippin's tensors by name.
        shapes: shapes of the source's tensors.

    Raises:
        ValueError: a tensor that has another number of elements; it is named.
    """
    state: dict[str, Tensor] = {}
    for entry in table:
        value = _changed(entry, tensors[entry.target])
        sizes = [torch.Size(shapes[name]).numel() for name in entry.sources]
        if sum(sizes) != value.numel():
            raise ValueError(
                f"{entry.target} has shape {tuple(value.shape)} and does not fit into "
                f"{', '.join(entry.sources)}"
            )
        parts = value.flatten().split(sizes)
        for name, part in zip(entry.sources, parts, strict=True):
            state[name] = part.reshape(shapes[name]).clone()
        for name in entry.copies:
            state[name] = state[entry.sources[0]].clone()
    return state


def _changed(entry: Entry, value: Tensor) -> Tensor:
    """Order and sign of the other side; its own inverse."""
    if entry.swapped:
        first, second = value.chunk(2)
        value = torch.cat([second, first])
    return -value if entry.negated else value


def _gather(state: Mapping[str, Tensor], names: tuple[str, ...]) -> Tensor:
    absent = [name for name in names if name not in state]
    if absent:
        raise ValueError(
            f"the weights lack {', '.join(absent)}: they belong to another model, or to other "
            "arguments"
        )
    parts = [state[name] for name in names]
    return parts[0] if len(parts) == 1 else torch.cat(parts)

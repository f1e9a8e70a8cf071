# SPDX-License-Identifier: Apache-2.0
"""Foreign weights put into a model of ours."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pippin.config import UNKNOWN_WEIGHTS
from pippin.interop.arguments import Configured
from pippin.interop.mapping import Entry, Shapes, from_theirs, shapes_of
from pippin.model import LatentDenoiser, build_model
from pippin.system.weight_checks import check_finite, listed

Table = Callable[[Any, Shapes], Iterable[Entry]]
"""(denoiser's configuration, shapes of ours) -> lines."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A converted model and what belongs to its weights."""

    source: str
    model: LatentDenoiser
    configured: Configured
    """Schedule, prediction type, variance and the autoencoder's affine are here."""
    unplaced: tuple[str, ...]
    """Tensors of the source that ours has no place for; none is dropped silently."""
    made_by_us: tuple[str, ...]
    """Tensors of ours that the source lacks, set to zero: the null caption."""
    weights: str = UNKNOWN_WEIGHTS
    """Their kind: raw, ema or unknown; see :mod:`pippin.interop.weight_kind`."""
    average: str | None = None
    """Which average, where that is known: ``decay 0.9999``."""


def place(
    source: str,
    configured: Configured,
    table: Table,
    state: Mapping[str, Tensor],
    *,
    may_lack: Collection[str] = (),
    own: Mapping[str, Tensor] | None = None,
) -> Placed:
    """A model of ours with foreign weights.

    Args:
        source: named in messages.
        configured: what the model is.
        table: of the source.
        state: its tensors by name.
        may_lack: tensors of ours that the source leaves to its caller.
        own: tensors under our names, for what the source lacks.

    Raises:
        ValueError: weights that do not fit; the message names them.
    """
    model = bare_model(configured)
    shapes = shapes_of(model)
    table_lines = lines(table, configured, shapes)
    _check_numbers(source, table_lines, state)
    check_finite(own or {}, source)
    converted = from_theirs(table_lines, state, shapes)
    mine = dict(own or {})
    odd = sorted(key for key in mine if shapes.get(key) != tuple(mine[key].shape))
    if odd:
        raise ValueError(f"{source}: {', '.join(odd)} do not fit this model")
    missing = tuple(name for name in converted.missing if name not in mine)
    if set(missing) - set(may_lack):
        lacking = sorted(set(missing) - set(may_lack))
        raise ValueError(f"{source}: the weights say nothing of {', '.join(lacking)}")
    zeros = {name: torch.zeros(shapes[name]) for name in missing}
    model.load_state_dict(converted.tensors | mine | zeros)
    return Placed(
        source=source,
        model=model.eval(),
        configured=configured,
        unplaced=converted.unplaced,
        made_by_us=missing,
    )


def _check_numbers(source: str, table: Iterable[Entry], state: Mapping[str, Tensor]) -> None:
    """Refuse tensors of a table that are no finite numbers, or whole numbers only."""
    names = {name for entry in table for name in (*entry.theirs, *entry.copies)}
    read = {name: state[name] for name in sorted(names & state.keys())}
    if whole := [name for name, value in read.items() if not value.is_floating_point()]:
        kind = str(read[whole[0]].dtype).removeprefix("torch.")
        raise ValueError(
            f"{source}: {listed(whole)} are stored as {kind}, which holds quantised weights; give "
            "the weights in float32, float16 or bfloat16 that they were made of"
        )
    check_finite(read, source)


def bare_model(configured: Configured, device: str = "cpu") -> LatentDenoiser:
    """Our model of a configuration, its weights to be loaded."""
    with torch.device(device):
        return build_model(
            configured.conditioning,
            configured.denoiser,
            num_classes=configured.num_classes,
            latent_channels=configured.latent_channels,
            seed=None,
        )


def lines(table: Table, configured: Configured, shapes: Shapes) -> list[Entry]:
    """The lines of a table that speak of tensors that this model has."""
    return [entry for entry in table(configured.denoiser, shapes) if entry.ours in shapes]

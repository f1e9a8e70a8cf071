# SPDX-License-Identifier: Apache-2.0
"""Loading of another implementation's weights into a pippin model."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pippin.denoisers.weights.arguments import ModelSpec
from pippin.denoisers.weights.formats import Table
from pippin.denoisers.weights.tensor_table import Entry, Shapes, from_source, shapes_of
from pippin.model import LatentDenoiser, build_model
from pippin.settings.weights import UNKNOWN_WEIGHTS
from pippin.system.weight_checks import check_finite, join_names


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """Converted model with the description of its weights."""

    source: str
    model: LatentDenoiser
    spec: ModelSpec
    """Description, with schedule, prediction type, variance and the autoencoder's affine."""
    unused_tensors: tuple[str, ...]
    """Unused tensors of the source; none is dropped silently."""
    zero_filled: tuple[str, ...]
    """Tensors of pippin that the source lacks, set to zero: the null caption."""
    weights: str = UNKNOWN_WEIGHTS
    """Kind of the weights: raw, ema or unknown; see :mod:`pippin.interop.wrappers`."""
    average: str | None = None
    """Decay of the average, if known: ``decay 0.9999``."""


def load_model(
    source: str,
    spec: ModelSpec,
    table: Table,
    state: Mapping[str, Tensor],
    *,
    may_lack: Collection[str] = (),
    own: Mapping[str, Tensor] | None = None,
) -> LoadedModel:
    """Pippin model with the weights of a source.

    Args:
        source: name of the source, for messages.
        spec: description of the model.
        table: table of the source.
        state: source tensors by name.
        may_lack: tensors of pippin that the source leaves to its caller.
        own: further tensors under pippin's names, which the source lacks.

    Raises:
        ValueError: weights that do not fit; the message names them.
    """
    model = uninitialised_model(spec)
    shapes = shapes_of(model)
    entries = table_entries(table, spec, shapes)
    _check_dtypes(source, entries, state)
    check_finite(own or {}, source)
    converted = from_source(entries, state, shapes)
    extra = dict(own or {})
    misfits = sorted(key for key in extra if shapes.get(key) != tuple(extra[key].shape))
    if misfits:
        raise ValueError(f"{source}: {', '.join(misfits)} do not fit this model")
    missing = tuple(name for name in converted.missing if name not in extra)
    if set(missing) - set(may_lack):
        required = sorted(set(missing) - set(may_lack))
        raise ValueError(f"{source}: the weights lack {', '.join(required)}")
    zeros = {name: torch.zeros(shapes[name]) for name in missing}
    model.load_state_dict(converted.tensors | extra | zeros)
    return LoadedModel(
        source=source,
        model=model.eval(),
        spec=spec,
        unused_tensors=converted.unused_tensors,
        zero_filled=missing,
    )


def _check_dtypes(source: str, table: Iterable[Entry], state: Mapping[str, Tensor]) -> None:
    """Refuse tensors of a table that are not finite or not floating point."""
    names = {name for entry in table for name in (*entry.sources, *entry.copies)}
    tensors = {name: state[name] for name in sorted(names & state.keys())}
    if integers := [name for name, value in tensors.items() if not value.is_floating_point()]:
        dtype = str(tensors[integers[0]].dtype).removeprefix("torch.")
        raise ValueError(
            f"{source}: {join_names(integers)} are stored as {dtype}, which holds quantised "
            "weights; give the original weights in float32, float16 or bfloat16"
        )
    check_finite(tensors, source)


def uninitialised_model(spec: ModelSpec) -> LatentDenoiser:
    """Pippin model of a description, without initialised weights, on the CPU."""
    with torch.device("cpu"):
        return build_model(
            spec.conditioning,
            spec.denoiser,
            num_classes=spec.num_classes,
            latent_channels=spec.latent_channels,
            seed=None,
        )


def table_entries(table: Table, spec: ModelSpec, shapes: Shapes) -> list[Entry]:
    """Entries of a table for tensors that this model has."""
    return [entry for entry in table(spec.denoiser, shapes) if entry.target in shapes]

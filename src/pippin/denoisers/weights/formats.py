# SPDX-License-Identifier: Apache-2.0
"""Declarations of the formats that a denoiser's weights have in other implementations.

Each folder of a denoiser declares its own, in ``published.py`` and ``diffusers.py``;
:mod:`pippin.interop` reads and writes all of them without knowing any denoiser.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from pippin.conditioning.config import ConditioningConfig
from pippin.denoisers.config import DenoiserConfig, SizeName
from pippin.denoisers.weights.arguments import Arguments, ModelSpec
from pippin.denoisers.weights.tensor_table import Entry, Shapes
from pippin.types import TextFeatures

Table = Callable[[Any, Shapes], Iterable[Entry]]
"""(denoiser's configuration, shapes of pippin's tensors) -> entries."""


@dataclass(frozen=True, kw_only=True)
class FixedPositions:
    """Sine-cosine positions that published weights store and pippin computes."""

    step: float = 1.0
    """Distance of neighbouring patches."""
    hint: str = ""
    """Arguments that the positions depend on, for messages."""


def unit_positions(config: Any, side: int) -> FixedPositions:
    """Positions in unit steps, for any configuration and side."""
    return FixedPositions()


@dataclass(frozen=True, kw_only=True)
class PublishedFormat:
    """Weights of a published class, and its calling convention."""

    read: Callable[[Arguments], ModelSpec]
    """Description of the model from the constructor's arguments."""
    table: Table
    anchors: tuple[str, str] = ("x_embedder.proj.weight", "final_layer.linear.weight")
    """Names of the first and the last layer, which locate the network in a checkpoint."""
    zero_filled: tuple[str, ...] = ()
    """Tensors of pippin that the published class leaves to its caller: the null caption."""
    stores_side: bool = False
    """True if ``pos_embed`` has one position per patch of the latent side that the weights were
    built for."""
    fixed_positions: Callable[[Any, int], FixedPositions] | None = None
    """(configuration, patches along a side) -> the table that ``pos_embed`` must be; None: it is
    learned or not read."""
    tokens: Literal["y", "context"] = "y"
    """Argument with the caption's tokens; a class-conditional model has class ids in ``y``."""
    pooled: bool = False
    """True if ``y`` is the pooled vector of the caption."""
    guided: Literal["constant", "interval", "power-cosine", "separate", "velocity"] | None = None
    """Scale of the published guided call: constant, constant with an interval of times, or growing
    with time. separate, velocity: see :mod:`pippin.interop.separate_guidance`. None: no such
    call."""
    data_time: bool = False
    """True if published times run from 0 = noise to 1 = data, and with them flow predictions
    (data - noise)."""
    prepare: Callable[[ModelSpec, Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None
    """Check of the source's tensors, and removal of what a table cannot express: outputs that the
    class computes and discards."""


def no_inputs(text: TextFeatures) -> dict[str, Any]:
    """No further arguments."""
    return {}


def leave(model: nn.Module) -> None:
    """Leave a model as it is."""


def no_notes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """No notes."""
    return ()


@dataclass(frozen=True, kw_only=True)
class DiffusersFormat:
    """Model class of diffusers."""

    name: str
    kind: str
    """Kind of pippin's denoiser."""
    folder: Literal["transformer", "unet"]
    """Name of the component in pipelines."""
    pipeline: str
    """Pipeline class of diffusers that draws with this class."""
    read: Callable[[Arguments], ModelSpec]
    write: Callable[[ModelSpec], dict[str, Any]]
    table: Table
    anchors: tuple[str, str]
    """Names of tensors that locate the network in a file, under any prefix."""
    has_qk_norm: bool = False
    has_image_shape: bool = False
    note: str = ""
    """Difference between diffusers' class and pippin, which users of either must know."""
    notes: Callable[[Mapping[str, Any]], tuple[str, ...]] = no_notes
    """Config.json -> further notes about a folder that was read."""
    benchmark: Callable[[SizeName, int], tuple[DenoiserConfig, ConditioningConfig]]
    """(size, side of the latents) -> denoiser with the conditions of its published model."""
    inputs: Callable[[TextFeatures], dict[str, Any]] = no_inputs
    """Arguments of the class's ``forward`` beside latents, times and tokens."""
    equalise: Callable[[Any], None] = leave
    """Change an instance of the class to compute pippin's function, where the two differ."""

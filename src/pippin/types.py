# SPDX-License-Identifier: Apache-2.0
"""Data types that pass between layers, with shapes and units.

Units:

- time ``t``: the input of the networks, in [0, 1000]. DDPM schedules: index 0..999, index 0 the
  least noisy; rectified flow: 1000 sigma; gvp: 2000 / pi times its angle. Gates read t / 1000.
- geometry: (height, width) and (top, left), in pixels of the *source image*.
- latents: ``Moments`` are the outputs of an autoencoder (and the content of caches); ``latents``
  are normalised to about unit variance by the autoencoder's own affine.
- images: uint8, (batch, 3, height, width), 0..255; ``pixels``: float32 in [-1, 1].
- progress is counted in images seen; batch size means the global batch.
- the null class id is ``num_classes``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from pippin.control import Control
from pippin.system.device import to_device
from pippin.system.text import valid_unicode

NUM_TIMES = 1000
"""Number of times, T: gates and time densities read t / NUM_TIMES."""

Images = UInt8[Tensor, "batch 3 height width"]
ImageStream = Iterable[UInt8[Tensor, "_ 3 _ _"]]
"""Batches of images; batch and image sizes may differ."""
Pixels = Float[Tensor, "batch 3 height width"]
Latents = Float[Tensor, "batch channels height width"]
Times = Float[Tensor, " batch"]


Prompt = int | str
"""Prompt of a sample: a class id, or text."""
ControlBatch = dict[str, Float[Tensor, "batch _"]]
"""Field name -> the batch's raw values, in the units of :class:`Control`."""


def stack_controls(controls: Sequence[Control]) -> ControlBatch:
    """Stack controls to one tensor (batch, parts) per field."""
    rows = [control.values() for control in controls]
    return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Mean and standard deviation of an autoencoder's posterior, before normalisation."""

    mean: Float[Tensor, "batch channels height width"]
    std: Float[Tensor, "batch channels height width"] | None = None
    """None for a deterministic encoder, whose latents are the means."""


@dataclass(frozen=True, kw_only=True)
class TextFeatures:
    """Outputs of a text encoder for a batch of captions."""

    tokens: Float[Tensor, "batch tokens features"] | None = None
    mask: Bool[Tensor, "batch tokens"] | None = None
    """True where a token may be attended to; None = all."""
    pooled: Float[Tensor, "batch pooled_features"] | None = None
    """One vector per caption."""

    def rows(self, rows: slice | Tensor) -> "TextFeatures":
        """Features of a subset of the captions."""
        return TextFeatures(
            **{name: None if v is None else v[rows] for name, v in self.columns().items()}
        )

    @classmethod
    def cat(cls, parts: Sequence["TextFeatures"]) -> "TextFeatures":
        """Concatenate batches, which all have the same tensors."""
        joined: dict[str, Tensor] = {}
        for entry in fields(cls):
            present = [value for part in parts if (value := getattr(part, entry.name)) is not None]
            if present:
                joined[entry.name] = torch.cat(present)
        return cls(**joined)

    def to(self, device: torch.device | str) -> "TextFeatures":
        """The same features on another device."""
        return TextFeatures(
            **{n: None if v is None else to_device(v, device) for n, v in self.columns().items()}
        )

    def columns(self, prefix: str = "") -> dict[str, Tensor | None]:
        """All tensors by name, with a prefix if given."""
        lead = f"{prefix} " if prefix else ""
        return {f"{lead}{entry.name}": getattr(self, entry.name) for entry in fields(self)}


@dataclass(frozen=True, kw_only=True)
class TruncatedCaption:
    """Caption with more tokens than a text encoder reads."""

    caption: str
    encoder: str
    """Name of the text encoder, as in ``text.source``."""
    tokens: int
    """Number of tokens of the caption, including start and end."""
    read: int
    """Number of tokens that are read, including start and end."""
    unread: str
    """Words that are not read, as the tokenizer spells them."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as in a manifest."""
        counts = {"tokens": self.tokens, "read": self.read}
        return {"prompt": valid_unicode(self.caption), "encoder": self.encoder, **counts}


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Conditions of a batch, before any embedding."""

    label: Int[Tensor, " batch"] | None = None
    """Class ids in [0, num_classes)."""
    text: TextFeatures | None = None
    negative_text: TextFeatures | None = None
    """Negative prompt: guidance uses it instead of the null caption."""
    control: ControlBatch
    """Raw control values; empty for a model without control."""

    def columns(self) -> dict[str, Tensor]:
        """All tensors by name; each has one row per image."""
        text, negative = self.text or TextFeatures(), self.negative_text or TextFeatures()
        named = {"label": self.label} | text.columns("text") | negative.columns("negative text")
        present = {name: values for name, values in named.items() if values is not None}
        return present | self.control

    @classmethod
    def cat(cls, parts: Sequence["Conditions"]) -> "Conditions":
        """Concatenate batches, which have the same kinds of conditions and no negative text."""
        first = parts[0]
        labels = [part.label for part in parts if part.label is not None]
        texts = [part.text for part in parts if part.text is not None]
        return cls(
            label=torch.cat(labels) if labels else None,
            text=TextFeatures.cat(texts) if texts else None,
            control={
                name: torch.cat([part.control[name] for part in parts]) for name in first.control
            },
        )

    def rows(self, rows: slice | Tensor) -> "Conditions":
        """Conditions of a subset of the images."""
        return Conditions(
            label=None if self.label is None else self.label[rows],
            text=self.text and self.text.rows(rows),
            negative_text=self.negative_text and self.negative_text.rows(rows),
            control={name: values[rows] for name, values in self.control.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Flags of the conditions that are kept; the others are replaced by their null."""

    semantic: Bool[Tensor, " batch"]
    control: Bool[Tensor, " batch"]
    """All control fields together."""
    fields: dict[str, Bool[Tensor, " batch"]] = field(default_factory=dict)
    """Flags of single control fields, in addition; other fields are kept."""

    def rows(self, rows: slice | Tensor) -> "Keep":
        """Flags of a subset of the images."""
        return Keep(
            semantic=self.semantic[rows],
            control=self.control[rows],
            fields={name: flag[rows] for name, flag in self.fields.items()},
        )

    def to(self, device: torch.device | str) -> "Keep":
        """The same flags on another device."""
        fields = {name: to_device(flag, device) for name, flag in self.fields.items()}
        return Keep(
            semantic=to_device(self.semantic, device),
            control=to_device(self.control, device),
            fields=fields,
        )


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Batch of a training step."""

    latents: Float[Tensor, "batch channels height width"]
    """Normalised latents."""
    conditions: Conditions
    index: Int[Tensor, " batch"]
    """Index in the data set of each image."""
    features: Float[Tensor, "batch features rows columns"] | None = None
    """Features of a frozen encoder of the clean views, on the denoiser's grid of tokens (REPA)."""

    def rows(self, rows: slice) -> "Batch":
        """Subset of the images."""
        return Batch(
            latents=self.latents[rows],
            conditions=self.conditions.rows(rows),
            index=self.index[rows],
            features=None if self.features is None else self.features[rows],
        )


@dataclass(frozen=True, kw_only=True)
class Masking:
    """Random numbers of a masked pass, which hides some of the denoiser's tokens (MDT, deferred
    masking)."""

    order: Float[Tensor, "batch tokens"]
    """Scores whose ascending order is the shuffle; the first tokens in it are kept."""
    ratio_position: float
    """Position in [0, 1) of the share of hidden tokens between its smallest and largest value."""
    hidden_share: float | None = None
    """Share of hidden tokens that training sets (deferred masking); None = it is the denoiser's
    own."""

    def rows(self, rows: slice) -> "Masking":
        """Numbers of a subset of the images."""
        return replace(self, order=self.order[rows])

    def to(self, device: torch.device | str) -> "Masking":
        """The same numbers on another device."""
        return replace(self, order=to_device(self.order, device))


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """Embedded conditions and time, the conditioning inputs of a denoiser."""

    tokens: Float[Tensor, "batch tokens token_width"] | None
    """Condition tokens; None for a model without attention to conditions."""
    mask: Bool[Tensor, "batch tokens"] | None = None
    """True where a token may be attended to; None = all."""
    modulation: Float[Tensor, "batch modulation_width"]
    """Time + gated control (+ semantics by modulation), before any SiLU."""
    time: Float[Tensor, "batch modulation_width"] | None = None
    """The time alone, for a denoiser that reads it apart (DDT)."""


@dataclass(frozen=True, kw_only=True)
class KeptTokens:
    """Image tokens that a masked prediction was computed from."""

    index: Int[Tensor, "batch kept"]
    """Their raster indices, ascending."""
    num_tokens: int
    """Number of all tokens of an image, N."""
    latents: Float[Tensor, "batch 1 height width"]
    """1 at latents of their patches, 0 at others."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Output of a denoiser, in the unit of the recipe's prediction type."""

    mean: Float[Tensor, "batch channels height width"]
    """eps, v, x0 or flow, with the latents' channels."""
    variance: Float[Tensor, "batch channels height width"] | None = None
    """Learned variance, if any (interpolation coefficient of Nichol & Dhariwal 2021, eq. 15)."""
    aux: "Prediction | None" = None
    """Second prediction of the same target, whose loss the objective adds (MDT's masked pass)."""
    hidden: Float[Tensor, "batch tokens dim"] | None = None
    """Image tokens of the denoiser's aligned block, in raster order, if it has one (REPA); of a
    masked prediction the kept ones."""
    kept: KeptTokens | None = None
    """Tokens that the prediction is made for, and its loss counts; it is 0 elsewhere. None =
    all."""

# SPDX-License-Identifier: Apache-2.0
"""What passes between the layers, with shapes and units.

Units, fixed once:

- time ``t``: the number the networks are fed, in [0, 1000]. DDPM schedules: index 0..999, index 0
  the least noisy; rectified flow: 1000 sigma. Gates read t / 1000.
- geometry: (height, width) and (top, left), in pixels of the *source image*.
- latents: ``Moments`` are what an autoencoder outputs (and what caches hold); ``latents`` are
  normalised to about unit variance by the autoencoder's own affine.
- images: uint8, (batch, 3, height, width), 0..255; ``pixels``: float32 in [-1, 1].
- progress is counted in images seen; batch size means the global batch.
- the null class id is ``num_classes``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from pippin.control import Control
from pippin.system.device import to_device

NUM_TIMES = 1000
"""T: gates and time densities read t / NUM_TIMES."""

Images = UInt8[Tensor, "batch 3 height width"]
ImageStream = Iterable[UInt8[Tensor, "_ 3 _ _"]]
"""Batches of images; their numbers and sizes may differ."""
Pixels = Float[Tensor, "batch 3 height width"]
Latents = Float[Tensor, "batch channels height width"]
Times = Float[Tensor, " batch"]


Prompt = int | str
"""What an image is asked to show: a class id, or text."""
ControlBatch = dict[str, Float[Tensor, "batch _"]]
"""Field name -> the batch's raw values, in the units of :class:`Control`."""


def stack_controls(controls: Sequence[Control]) -> ControlBatch:
    """One tensor (batch, parts) for each field."""
    rows = [control.values() for control in controls]
    return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Mean and standard deviation of an autoencoder's posterior, before normalisation."""

    mean: Float[Tensor, "batch channels height width"]
    std: Float[Tensor, "batch channels height width"]


@dataclass(frozen=True, kw_only=True)
class TextFeatures:
    """What a text encoder made of a batch of captions."""

    tokens: Float[Tensor, "batch tokens features"] | None = None
    mask: Bool[Tensor, "batch tokens"] | None = None
    """True where a token may be attended to; None = all."""
    pooled: Float[Tensor, "batch pooled_features"] | None = None
    """One vector a caption."""

    def rows(self, rows: slice | Tensor) -> "TextFeatures":
        """Those of some of the captions."""
        return TextFeatures(
            **{name: None if v is None else v[rows] for name, v in self.columns().items()}
        )

    @classmethod
    def cat(cls, parts: Sequence["TextFeatures"]) -> "TextFeatures":
        """One batch after the other; all have the same tensors."""
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
        """Every tensor by its name, after a prefix where one is given."""
        lead = f"{prefix} " if prefix else ""
        return {f"{lead}{entry.name}": getattr(self, entry.name) for entry in fields(self)}


@dataclass(frozen=True, kw_only=True)
class CutCaption:
    """A caption that has more tokens than a text encoder reads of it."""

    caption: str
    encoder: str
    """As ``text.source`` names it."""
    tokens: int
    """That the caption has, those of its start and end among them."""
    read: int
    """That are read, start and end among them."""
    unread: str
    """The words that are not read, as the tokenizer spells them."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as a manifest lists them."""
        text = self.caption.encode("utf-8", "replace").decode("utf-8")
        counts = {"tokens": self.tokens, "read": self.read}
        return {"prompt": text, "encoder": self.encoder, **counts}


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a batch is conditioned on, before any embedding."""

    label: Int[Tensor, " batch"] | None = None
    """Class ids in [0, num_classes)."""
    text: TextFeatures | None = None
    negative_text: TextFeatures | None = None
    """What samples are guided away from in the place of the null caption (a negative prompt)."""
    control: ControlBatch
    """Raw control values; empty where a model takes none."""

    def columns(self) -> dict[str, Tensor]:
        """Every tensor by a name; each has one row an image."""
        text, negative = self.text or TextFeatures(), self.negative_text or TextFeatures()
        named = {"label": self.label} | text.columns("text") | negative.columns("negative text")
        present = {name: values for name, values in named.items() if values is not None}
        return present | self.control

    @classmethod
    def cat(cls, parts: Sequence["Conditions"]) -> "Conditions":
        """One batch after the other; all have the same conditions, and no negative text."""
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

    def rows(self, rows: slice) -> "Conditions":
        """The conditions of some of the images."""
        return Conditions(
            label=None if self.label is None else self.label[rows],
            text=self.text and self.text.rows(rows),
            negative_text=self.negative_text and self.negative_text.rows(rows),
            control={name: values[rows] for name, values in self.control.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Which of a batch's conditions are kept; the others are replaced by their null."""

    semantic: Bool[Tensor, " batch"]
    control: Bool[Tensor, " batch"]
    """All control fields together."""
    fields: dict[str, Bool[Tensor, " batch"]] = field(default_factory=dict)
    """Single control fields, on top; a field that is not named is kept."""

    def rows(self, rows: slice) -> "Keep":
        """The flags of some of the images."""
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
    """What a training step sees."""

    latents: Float[Tensor, "batch channels height width"]
    """Normalised latents."""
    conditions: Conditions
    index: Int[Tensor, " batch"]
    """Which picture of the data set each row shows."""

    def rows(self, rows: slice) -> "Batch":
        """Some of the images."""
        return Batch(
            latents=self.latents[rows],
            conditions=self.conditions.rows(rows),
            index=self.index[rows],
        )


@dataclass(frozen=True, kw_only=True)
class Masking:
    """The random numbers of a pass in which a denoiser hides some of its tokens (MDT)."""

    order: Float[Tensor, "batch tokens"]
    """Their ascending order is the shuffle; the tokens that come first in it are kept."""
    ratio: float
    """In [0, 1): where between its smallest and largest value the share of hidden tokens lies."""

    def to(self, device: torch.device | str) -> "Masking":
        """The same numbers on another device."""
        return Masking(order=to_device(self.order, device), ratio=self.ratio)


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """All that a denoiser learns about its conditions and time."""

    tokens: Float[Tensor, "batch tokens token_width"] | None
    """What attention reads; None for a model without attention to conditions."""
    mask: Bool[Tensor, "batch tokens"] | None = None
    """True where a token may be attended to; None = all."""
    modulation: Float[Tensor, "batch modulation_width"]
    """Time + gated control (+ semantics by modulation), before any SiLU."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a denoiser returns: in the unit of the recipe's prediction type."""

    mean: Float[Tensor, "batch channels height width"]
    """eps, v, x0 or flow, with the latents' channels."""
    variance: Float[Tensor, "batch channels height width"] | None = None
    """Where a recipe learns it (interpolation coefficient of Nichol & Dhariwal 2021, eq. 15)."""
    aux: "Prediction | None" = None
    """A second prediction of the same, whose loss the objective adds (MDT's masked pass)."""

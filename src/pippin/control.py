# SPDX-License-Identifier: Apache-2.0
"""Control: the preparation of an image. Every field is declared here, once: range, law, probe,
words.

A field's declaration determines the record of every training image, the columns of latent caches,
the model's embeddings (``conditioning.control``), the requests of samples (``sampling.control``),
the law of its values in training (``data.look``), the probe that measures its effect, its words in
reports and the protocol of every measure. A new field of :class:`Augmentation` also needs its
change of pixels (``data/views/pixel_changes.py``). This module imports no torch: configurations
import it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal, NamedTuple, get_type_hints

LATER: dict[str, Any] = {"protocol": "where set"}
"""Metadata of a field that was added after results were kept: records contain it if it is set
(settings know it as :data:`pippin.settings.marks.PROTOCOL_IF_CHANGED`)."""
Group = Literal["high", "low"]
"""high: fields that change composition; low: fields that change detail (Berrada et al. 2024)."""


class Size(NamedTuple):
    """Size (height, width) in pixels of the source image."""

    height: int
    width: int


class Corner(NamedTuple):
    """Corner (top, left) in pixels of the source image."""

    top: int
    left: int


class ColourJitter(NamedTuple):
    """Factors of an image's colour jitter; 1 leaves the colours unchanged."""

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0


class Effect(NamedTuple):
    """Words of the measured effect of a field."""

    unit: str
    description: str
    matchable: bool = True
    """True if the effect is a number per image, so that models can be compared at equal effect."""


@dataclass(frozen=True, kw_only=True)
class ControlField:
    """One field: its numbers, which a network reads in [0, 1], its law, probe and words."""

    unit: str
    low: float
    high: float
    group: Group
    """Default group of the field."""
    parts: int = 1
    scale: Literal["linear", "log"] = "linear"
    relative_to: str | None = None
    """Field by which the values are divided first, part by part."""
    ratio_of: str | None = None
    """Field of which this one is the ratio, first over second part, clipped to the range; the
    field then has no recorded number of its own."""
    strongest: float | None = None
    """Law: a share of the views, ``data.look.shares``, has values that are uniform from the clean
    one to this. None: the field's law has settings of its own."""
    effect: Effect | None = None
    """Measured effect of the field; None = no effect is measured."""
    probe_value: Any = None
    """Value of an augmentation that its probe compares with the clean one; None: the field's probe
    has a class of its own, see :mod:`pippin.evaluation.probes`."""
    label: str = ""
    """Name in reports; empty = the name in the code."""
    phrase: str = ""
    """Name within a sentence."""

    @property
    def sources(self) -> tuple[str | None, ...]:
        """Other recorded fields that this one is computed from."""
        return tuple(filter(None, (self.relative_to, self.ratio_of)))


_DECLARED = "control"


def _declare(**declaration: Any) -> dict[str, ControlField]:
    return {_DECLARED: ControlField(**declaration)}


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Augmentation of the pixels of an image of training size. The defaults change nothing."""

    colour_jitter: ColourJitter = field(
        default=ColourJitter(),
        metadata=_declare(
            parts=3,
            unit="factors of brightness, contrast and saturation",
            low=0.25,
            high=4,
            scale="log",
            group="low",
            probe_value=ColourJitter(brightness=0.6),
            effect=Effect(
                "nat",
                "How much darker images become when darkened colours are requested; "
                "0 = the control has no effect.",
            ),
            label="colour jitter",
            phrase="a change of colours",
        ),
    )
    """Factors of brightness, contrast and saturation, applied in this order; 1 1 1 is clean."""
    jpeg_quality: int = field(
        default=100,
        metadata=_declare(
            unit="JPEG quality",
            low=1,
            high=100,
            group="low",
            probe_value=15,
            effect=Effect(
                "nat",
                "How much less compression changes images that were requested as compressed; "
                "0 = the control has no effect.",
            ),
            label="JPEG quality",
            phrase="the quality of compression",
        ),
    )
    """Quality of JPEG compression at the training resolution; 100 is clean: no compression."""
    grain: float = field(
        default=0.0,
        metadata=LATER
        | _declare(
            unit="levels of 255",
            low=0,
            high=64,
            group="low",
            probe_value=32.0,
            effect=Effect(
                "levels",
                "How much grainier images become when grain is requested, in levels of 255; "
                "0 = the control has no effect.",
            ),
            label="grain",
            phrase="film grain",
        ),
    )
    """Standard deviation of film grain at mid-grey, in cells of 2 x 2 pixels; 0 is clean."""


@dataclass(frozen=True, kw_only=True)
class Control(Augmentation):
    """Preparation of one training image from its source.

    The crop is taken from the stored source image; ``flip`` mirrors the *cropped* region
    left-right. ``crop_corner`` therefore never depends on the flip.
    """

    original_size: Size = field(
        metadata=_declare(
            parts=2,
            unit="pixels",
            low=8,
            high=8192,
            scale="log",
            group="low",
            effect=Effect(
                "nat",
                "How much sharper images become when a larger original size is requested; "
                "0 = the control has no effect.",
            ),
            label="original size",
            phrase="the original size",
        )
    )
    crop_corner: Corner = field(
        metadata=_declare(
            parts=2,
            unit="share of the original side",
            low=0,
            high=1,
            relative_to="original_size",
            group="high",
            effect=Effect(
                "side",
                "How far the object moves, in image sides, when another crop is requested; "
                "0 = the control has no effect.",
            ),
            label="crop corner",
            phrase="the corner of the crop",
        )
    )
    crop_size: Size = field(
        metadata=_declare(
            parts=2,
            unit="share of the original side",
            low=0,
            high=1,
            relative_to="original_size",
            group="high",
        )
    )
    flip: bool = field(
        metadata=_declare(
            unit="no or yes",
            low=0,
            high=1,
            group="high",
            effect=Effect(
                "share",
                "Share of asymmetric images that are mirrored on request; 0 = no effect.",
                matchable=False,
            ),
            label="flip",
            phrase="mirroring",
        )
    )

    def values(self) -> dict[str, tuple[float, ...]]:
        """Numbers of each field, in its unit, by field name."""
        return {entry.name: _numbers(getattr(self, entry.name)) for entry in fields(self)}

    def protocol(self) -> dict[str, tuple[float, ...]]:
        """Values for the protocol of measures, which contains fields of :data:`LATER` only if
        set."""
        unset = {
            entry.name
            for entry in fields(self)
            if entry.metadata.items() >= LATER.items()
            and getattr(self, entry.name) == entry.default
        }
        return {name: value for name, value in self.values().items() if name not in unset}

    @classmethod
    def from_values(cls, values: Mapping[str, tuple[float, ...]]) -> "Control":
        """Inverse of :meth:`values`; missing fields have their clean default."""
        kinds = get_type_hints(cls)
        known = {entry.name for entry in fields(cls)} & values.keys()
        return cls(**{name: _value(kinds[name], values[name]) for name in known})


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(map(float, value if isinstance(value, tuple) else (value,)))


def _value(kind: Any, numbers: tuple[float, ...]) -> Any:
    """Numbers converted to a field of this type."""
    if issubclass(kind, tuple):
        parts = get_type_hints(kind).values()
        return kind(*(part(number) for part, number in zip(parts, numbers, strict=True)))
    return kind(numbers[0])


def _declared(entry: "Field[Any]") -> ControlField:
    declaration: ControlField = entry.metadata[_DECLARED]
    return declaration


CONTROL_FIELDS: dict[str, ControlField] = {
    **{entry.name: _declared(entry) for entry in fields(Control)},
    "aspect_ratio": ControlField(
        unit="height over width of the original",
        low=1 / 16,
        high=16,
        scale="log",
        ratio_of="original_size",
        group="high",
    ),
}
"""Every field that a model can read, by name."""

SMALLEST_SIDE = int(CONTROL_FIELDS["original_size"].low)
LARGEST_SIDE = int(CONTROL_FIELDS["original_size"].high)
"""Largest side of source images, in pixels: the limit of control's original size. No larger image
file is decoded."""

AUGMENTATION_FIELDS: tuple[str, ...] = tuple(entry.name for entry in fields(Augmentation))
"""The fields of :class:`Augmentation`."""

_FIRST = ("original_size", "crop_corner", "flip", "jpeg_quality", "colour_jitter")
PROBED_CONTROLS: tuple[str, ...] = tuple(
    name
    for name in dict.fromkeys((*_FIRST, *CONTROL_FIELDS))
    if CONTROL_FIELDS[name].effect is not None
)
"""Controls whose drift and effect can be measured, in the order of reports."""


_RECORDED: tuple[str, ...] = tuple(entry.name for entry in fields(Control))


def recorded_fields(names: Iterable[str]) -> tuple[str, ...]:
    """Fields of :class:`Control` that these fields are computed from, each once."""
    sources = [
        source
        for name in names
        for source in (name, *CONTROL_FIELDS[name].sources)
        if source in _RECORDED
    ]
    return tuple(dict.fromkeys(sources))

# SPDX-License-Identifier: Apache-2.0
"""Control: how an image was prepared. Every field is declared here, once, with its range.

From a field's declaration follow the record of every training image, the columns of latent
caches, what the model embeds (``conditioning.control``), what a sample may ask for
(``sampling.control``) and the protocol of every measure. Whoever adds a field to :class:`Look`
adds, besides, the law and the operation on pixels that go with it (``data/look.py``).
No torch here: configurations import this.
"""

from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal, NamedTuple, get_type_hints

LATER: dict[str, Any] = {"protocol": "where set"}
"""Metadata of a field that came after results were kept: records name it where it is set
(:data:`pippin.config.WHERE_SET`, which is below this module)."""
Group = Literal["high", "low"]
"""high: what changes composition; low: what changes detail (Berrada et al. 2024)."""


class Size(NamedTuple):
    """(height, width) in pixels of the source image."""

    height: int
    width: int


class Corner(NamedTuple):
    """(top, left) in pixels of the source image."""

    top: int
    left: int


class ColourJitter(NamedTuple):
    """Factors by which a picture's colours were changed; 1 leaves them as they are."""

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ControlField:
    """How the raw numbers of one field become numbers in [0, 1] that a network reads."""

    unit: str
    low: float
    high: float
    group: Group
    """Where the field belongs unless a recipe says otherwise."""
    parts: int = 1
    scale: Literal["linear", "log"] = "linear"
    relative_to: str | None = None
    """Divide by another field first, part by part."""
    ratio_of: str | None = None
    """No number of its own: first over second part of another field, cut to the range."""

    @property
    def sources(self) -> tuple[str | None, ...]:
        """Other fields of the record that this one is computed from."""
        return tuple(filter(None, (self.relative_to, self.ratio_of)))


_DECLARED = "control"


def _declare(**declaration: Any) -> dict[str, ControlField]:
    return {_DECLARED: ControlField(**declaration)}


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was done to the pixels of an image of training size. The defaults are clean."""

    colour_jitter: ColourJitter = field(
        default=ColourJitter(),
        metadata=_declare(
            parts=3,
            unit="factors of brightness, contrast and saturation",
            low=0.25,
            high=4,
            scale="log",
            group="low",
        ),
    )
    """Factors of brightness, contrast and saturation, applied in this order; 1 1 1 is clean."""
    jpeg_quality: int = field(
        default=100, metadata=_declare(unit="JPEG quality", low=1, high=100, group="low")
    )
    """Of JPEG compression at the training resolution; 100 is clean: not compressed at all."""
    grain: float = field(
        default=0.0,
        metadata=LATER | _declare(unit="levels of 255", low=0, high=64, group="low"),
    )
    """Standard deviation of film grain at mid-grey, in cells of 2 x 2 pixels; 0 is clean."""


@dataclass(frozen=True, kw_only=True)
class Control(Look):
    """How one training image was prepared from its source.

    The crop is taken from the source image as it is stored; ``flip`` mirrors the *cropped* region
    left-right. ``crop_corner`` therefore never depends on the flip.
    """

    original_size: Size = field(
        metadata=_declare(parts=2, unit="pixels", low=8, high=8192, scale="log", group="low")
    )
    crop_corner: Corner = field(
        metadata=_declare(
            parts=2,
            unit="share of the original side",
            low=0,
            high=1,
            relative_to="original_size",
            group="high",
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
    flip: bool = field(metadata=_declare(unit="no or yes", low=0, high=1, group="high"))

    def values(self) -> dict[str, tuple[float, ...]]:
        """Each field's numbers, in its unit, by field name."""
        return {entry.name: _numbers(getattr(self, entry.name)) for entry in fields(self)}

    def protocol(self) -> dict[str, tuple[float, ...]]:
        """The same for records of measures, where fields that came later stand if set."""
        silent = {
            entry.name
            for entry in fields(self)
            if entry.metadata.items() >= LATER.items()
            and getattr(self, entry.name) == entry.default
        }
        return {name: value for name, value in self.values().items() if name not in silent}

    @classmethod
    def from_values(cls, values: Mapping[str, tuple[float, ...]]) -> "Control":
        """The inverse of :meth:`values`; a clean look may be left out."""
        kinds = get_type_hints(cls)
        known = {entry.name for entry in fields(cls)} & values.keys()
        return cls(**{name: _value(kinds[name], values[name]) for name in known})


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(map(float, value if isinstance(value, tuple) else (value,)))


def _value(kind: Any, numbers: tuple[float, ...]) -> Any:
    """Numbers as a field of this type holds them."""
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
"""Of source images, in pixels: what control can say of an original size. No larger image file is
decoded anywhere."""

LOOKS: tuple[str, ...] = tuple(entry.name for entry in fields(Look))
"""The fields of :class:`Look`."""


def recorded(names: Iterable[str]) -> tuple[str, ...]:
    """The fields of a :class:`Control` that these fields are computed from, each once."""
    own = {entry.name for entry in fields(Control)}
    needed = [one for name in names for one in (name, *CONTROL_FIELDS[name].sources) if one in own]
    return tuple(dict.fromkeys(needed))

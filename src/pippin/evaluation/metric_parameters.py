# SPDX-License-Identifier: Apache-2.0
"""Parameters in the names of metrics: how each is written, read, and put into words."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any, ClassVar, Literal, NamedTuple

from pippin.config import ConfigError
from pippin.control import PROBED_CONTROLS
from pippin.evaluation.control_words import control_in_sentence, control_label

_NUMBER = r"-?[0-9.]+(?:e[+-]?[0-9]+)?"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One placeholder of a metric's name; this one stands for any word."""

    optional: ClassVar[bool] = False
    """True if a name may lack it; its value is then that of the empty text."""
    examples: tuple[Any, ...] = ()
    """Values that lists of names contain."""
    listed_in: str = ""
    """Setting of the evaluation that must contain the value; empty = none."""

    def regex(self) -> str:
        """Regular expression of the text in a name."""
        return r"\w+"

    def parse(self, text: str) -> Any:
        """Value of a text that matches the expression.

        Raises:
            ValueError: the text is no value after all.
        """
        return text

    def render(self, value: Any) -> str:
        """Text of a value in a name."""
        return str(value)

    def label(self, value: Any) -> str:
        """Text of a value in a label."""
        return self.render(value)

    def sentence(self, value: Any) -> str:
        """Text of a value within a sentence."""
        return self.label(value)

    def setting(self, value: Any) -> str:
        """Setting of the evaluation that must contain this value; empty = none."""
        return self.listed_in


@dataclass(frozen=True, kw_only=True)
class ControlName(Parameter):
    """Name of a control field; labels and sentences use the field's words."""

    examples: tuple[Any, ...] = PROBED_CONTROLS

    def label(self, value: Any) -> str:
        """Label of the field."""
        return control_label(value)

    def sentence(self, value: Any) -> str:
        """The field within a sentence."""
        return control_in_sentence(value)


@dataclass(frozen=True, kw_only=True)
class FeatureName(Parameter):
    """Feature network; one read from an unofficial file has the beginning of the file's hash."""

    examples: tuple[Any, ...] = ("efflite0", "inception", "dinov2", "clip")

    def regex(self) -> str:
        """Any text without spaces."""
        return r"\S+"


@dataclass(frozen=True, kw_only=True)
class ClipFeatures(FeatureName):
    """The image embeddings of a CLIP."""

    examples: tuple[Any, ...] = ("clip",)

    def regex(self) -> str:
        """The one name."""
        return "clip"


@dataclass(frozen=True, kw_only=True)
class UnofficialFeatures(FeatureName):
    """Any feature network but the published Inception, in which the metric has another name."""

    examples: tuple[Any, ...] = ("efflite0", "dinov2", "clip")

    def parse(self, text: str) -> str:
        """The name of the network."""
        if text == "inception":
            raise ValueError("a metric in features of the published Inception has another name")
        return text


def network_of(features: str) -> str:
    """Kind of network: ``inception`` of ``inception-ab12cd34``, the network of another file."""
    return features.partition("-")[0]


@dataclass(frozen=True, kw_only=True)
class Number(Parameter):
    """A number, as the format ``g`` writes it."""

    def regex(self) -> str:
        """Digits, a point, a sign, an exponent."""
        return _NUMBER

    def parse(self, text: str) -> float:
        """The number."""
        return float(text)

    def render(self, value: Any) -> str:
        """The number with up to six digits."""
        return f"{value:g}"


@dataclass(frozen=True, kw_only=True)
class Choice(Parameter):
    """One of the words in ``examples``."""

    def regex(self) -> str:
        """Any of the words."""
        return "|".join(self.examples)


@dataclass(frozen=True, kw_only=True)
class Suffix(Parameter):
    """A space and one of the words in ``examples``, or nothing: the empty value."""

    optional: ClassVar[bool] = True

    def regex(self) -> str:
        """A space and a word, or nothing."""
        return f"(?: (?:{'|'.join(filter(None, self.examples))}))?"

    def parse(self, text: str) -> str:
        """The word without the space."""
        return text.strip()

    def render(self, value: Any) -> str:
        """A space and the word, or nothing."""
        return f" {value}" if value else ""

    def setting(self, value: Any) -> str:
        """Only a word must be listed."""
        return self.listed_in if value else ""


SHUFFLED = Suffix(examples=("", "shuffled"))
"""The floor of a metric of captions, which are then shuffled among the images."""


class CurvePosition(NamedTuple):
    """Position of a point on a curve of drift against effect."""

    along: Literal["size", "beta"]
    """size: small original size of the pairs, in pixels; beta: scale of control guidance."""
    value: float


@dataclass(frozen=True, kw_only=True)
class Position(Parameter):
    """Position on a curve; None for a measure without a curve."""

    optional: ClassVar[bool] = True
    examples: tuple[Any, ...] = (None,)

    def regex(self) -> str:
        """``at 24`` for a size, ``at beta 2`` for a guidance scale, or nothing."""
        return f"(?: at (?:beta )?{_NUMBER})?"

    def parse(self, text: str) -> CurvePosition | None:
        """The position."""
        words = text.split()
        if not words:
            return None
        return CurvePosition("beta" if "beta" in words else "size", float(words[-1]))

    def render(self, value: Any) -> str:
        """Inverse of :meth:`parse`."""
        if value is None:
            return ""
        return f" at {'beta ' if value.along == 'beta' else ''}{value.value:g}"

    def setting(self, value: Any) -> str:
        """The list of sizes or of scales."""
        if value is None:
            return ""
        return {"size": "size_curve", "beta": "control_scales"}[value.along]


def check_placeholders(name: str, known: Collection[str], texts: Mapping[str, str]) -> None:
    """Refuse placeholders that have no parameter.

    Args:
        name: name of a kind of metrics.
        known: placeholders that have a parameter.
        texts: field -> its text, which may have the placeholders of the name.

    Raises:
        ConfigError: the message names the field, the placeholder and what is allowed.
    """
    named = _placeholders(name, "name", name)
    if not name or len(set(named)) < len(named):
        raise ConfigError(
            f"a metric needs a name in which each placeholder stands once; got {name!r}"
        )
    for missing in (one for one in named if one not in known):
        raise ConfigError(
            f"metric {name!r}: the placeholder {{{missing}}} of its name has no parameter; known "
            f"are: {', '.join(sorted(known))}; for another one, declare it: "
            f'parameters={{"{missing}": Parameter(examples=(...,))}}'
        )
    for field, text in texts.items():
        for missing in (one for one in _placeholders(name, field, text) if one not in named):
            raise ConfigError(
                f"metric {name!r}: the placeholder {{{missing}}} of its {field} is not one of its "
                f"name, which has: {', '.join(named) or 'none'}; double the braces of plain text"
            )


def _placeholders(metric: str, field: str, text: str) -> list[str]:
    """Names in braces, in their order."""
    try:
        parts = [part for part in Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        raise ConfigError(
            f"metric {metric!r}: the braces of its {field} are unbalanced ({error}): {text!r}; "
            "double the braces of plain text"
        ) from error
    for _, name, form, conversion in parts:
        if form or conversion or not str(name).isidentifier():
            raise ConfigError(
                f"metric {metric!r}: a placeholder of its {field} must be a plain name such as "
                f"{{control}}; got {text!r}"
            )
    return [str(name) for _, name, *_ in parts]

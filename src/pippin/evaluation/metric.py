# SPDX-License-Identifier: Apache-2.0
"""Metrics: identity, name, words, unit and direction of a measured number.

A :class:`MetricKind` is declared once and stands for a family: ``drift {control}``. A
:class:`Metric` is one of its members: ``DRIFT(control="grain")``. Files hold only the name;
:func:`pippin.evaluation.metric_registry.find_metric` finds the metric of a name. This module
imports no torch, because reports read it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from string import Formatter
from typing import Any, Literal

from pippin.evaluation.config import Part
from pippin.evaluation.metric_parameters import (
    ControlName,
    CurvePosition,
    FeatureName,
    Number,
    Parameter,
    Position,
    check_placeholders,
)

Better = Literal["lower", "higher", "neither"]
Group = Literal["control", "samples", "loss", "cost", "other"]
"""Section of a report."""
Words = str | Callable[["Metric"], str]
"""A text with placeholders for parameters, or a function of the metric."""

USUAL_PARAMETERS: dict[str, Parameter] = {
    "control": ControlName(),
    "features": FeatureName(),
    "at": Number(),
    "position": Position(),
}
"""Placeholders that a kind need not declare."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MetricKind:
    """Declaration of a family of metrics, or of one metric if the name has no placeholder.

    Kinds are compared by identity. A call with parameters gives a :class:`Metric`.
    """

    name: str
    """Name in files, with placeholders: ``drift {control}``."""
    description: Words
    """A sentence or two for the glossary of reports."""
    label: Words = ""
    """Name in reports; empty = the name in files."""
    unit: Words = ""
    better: Better | Callable[["Metric"], Better]
    target: bool = False
    """The best value is the nearest to real images' value, whatever ``better`` says."""
    group: Group = "other"
    leads: bool | Callable[["Metric"], bool] = False
    """Shown in the main table; other metrics are collapsed."""
    part: Part | None = None
    """Part of the evaluation that measures it; None = none of ``evaluation.parts``."""
    needs: tuple[str, ...] = ()
    """Settings of the evaluation without which it is not measured."""
    command: str = ""
    """Command that measures it instead of the evaluation of a run; empty = none."""
    features: str = ""
    """Feature network of a kind whose name does not contain it; empty = any."""
    official: "MetricKind | None" = None
    """Kind that takes its place in features of the network of that kind: FID for the Fréchet
    distance in Inception features. None = it has one name in all features."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    """Parameters of placeholders that are not in :data:`USUAL_PARAMETERS`."""

    def __post_init__(self) -> None:
        """Refuse a name or words with placeholders that have no parameter."""
        words = {"label": self.label, "description": self.description, "unit": self.unit}
        texts = {field: text for field, text in words.items() if isinstance(text, str)}
        check_placeholders(self.name, {*USUAL_PARAMETERS, *self.parameters}, texts)

    def __call__(self, **values: Any) -> "Metric":
        """The metric with these parameters.

        Raises:
            TypeError: a parameter is missing, or the name has no such placeholder.
        """
        required = {name for name, entry in self.placeholders.items() if not entry.optional}
        if not required <= values.keys() <= self.placeholders.keys():
            raise TypeError(
                f"metric {self.name!r} takes {sorted(self.placeholders)}, of which it needs "
                f"{sorted(required)}; got {sorted(values)}"
            )
        chosen = (
            (name, values[name] if name in values else parameter.parse(""))
            for name, parameter in self.placeholders.items()
        )
        return Metric(kind=self, values=tuple(chosen))

    def __repr__(self) -> str:
        return f"<metric kind {self.name!r}>"

    @cached_property
    def placeholders(self) -> dict[str, Parameter]:
        """Parameter of each placeholder, in the order of the name."""
        known = {**USUAL_PARAMETERS, **self.parameters}
        return {name: known[name] for _, name, *_ in Formatter().parse(self.name) if name}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts = (
            re.escape(text) + (f"(?P<{name}>{self.placeholders[name].regex()})" if name else "")
            for text, name, *_ in Formatter().parse(self.name)
        )
        return re.compile("".join(parts), re.ASCII)

    def match(self, name: str) -> "Metric | None":
        """The metric of this kind that has the name; None if there is none."""
        groups = self._pattern.fullmatch(name)
        if groups is None:
            return None
        try:
            values = {
                key: self.placeholders[key].parse(text) for key, text in groups.groupdict().items()
            }
        except ValueError:
            return None
        metric = self(**values)
        return metric if metric.name == name else None

    def examples(self) -> Iterator["Metric"]:
        """Metrics with every combination of the parameters' examples."""
        for values in product(*(entry.examples for entry in self.placeholders.values())):
            yield self(**dict(zip(self.placeholders, values, strict=True)))


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Identity of a measured number: its kind and the kind's parameters."""

    kind: MetricKind
    values: tuple[tuple[str, Any], ...] = ()
    """Value of each parameter, in the order of the name."""

    def __str__(self) -> str:
        return self.name

    @cached_property
    def name(self) -> str:
        """Name in files: results, protocols, seeds of bootstraps."""
        return self.kind.name.format_map(self._texts("render"))

    def value(self, parameter: str, default: Any = None) -> Any:
        """Value of a parameter; ``default`` if the kind lacks it."""
        return dict(self.values).get(parameter, default)

    def value_text(self, parameter: str) -> str:
        """Text of a parameter's value in the name."""
        return self._texts("render")[parameter].strip()

    def with_values(self, **values: Any) -> "Metric":
        """The same metric with other values of parameters that it has."""
        return self.kind(**(dict(self.values) | values))

    def in_features(self, features: str) -> "Metric":
        """The same metric in the features of another network, where its name states them; in
        features ``inception``, ``FD-efflite0`` is ``FID``."""
        if self.of is not None:
            return self.with_values(of=self.of.in_features(features))
        if not self.value("features"):
            return self
        official = self.kind.official
        if official is not None and official.features == features:
            return official()
        return self.with_values(features=features)

    @property
    def of(self) -> "Metric | None":
        """The metric that is measured in another place: KID of ``KID-efflite0 at best scale``."""
        inner: Metric | None = self.value("of")
        return inner

    @property
    def control(self) -> str:
        """Control field that it is about; empty = none."""
        return str(self.value("control") or (self.of.control if self.of else ""))

    @property
    def features(self) -> str:
        """Feature network that its name states; empty = it states none."""
        inner = self.of.features if self.of else ""
        return str(self.value("features") or self.kind.features or inner)

    @property
    def position(self) -> CurvePosition | None:
        """Position on a curve of drift against effect."""
        position: CurvePosition | None = self.value("position")
        return position

    @property
    def at(self) -> float | None:
        """Noise level, scale, size or rank that it is measured at."""
        return self.position.value if self.position else self.value("at")

    @property
    def label(self) -> str:
        """Name in reports."""
        return self._in_words(self.kind.label, "label") or self.name

    @property
    def description(self) -> str:
        """Explanation in reports; empty for an unknown metric."""
        return self._in_words(self.kind.description, "sentence")

    @property
    def unit(self) -> str:
        """Unit of the value; empty = none."""
        return self._in_words(self.kind.unit, "label")

    @property
    def better(self) -> Better:
        """Better direction, where there is no target."""
        better = self.kind.better
        return better(self) if callable(better) else better

    @property
    def target(self) -> bool:
        """True if the best value is the nearest to real images' value."""
        return self.kind.target

    @property
    def group(self) -> Group:
        """Section of a report."""
        return self.kind.group

    @property
    def leads(self) -> bool:
        """True if the main table shows it."""
        leads = self.kind.leads
        return leads(self) if callable(leads) else leads

    def _in_words(self, words: Words, form: Literal["label", "sentence"]) -> str:
        return words(self) if callable(words) else words.format_map(self._texts(form))

    def _texts(self, form: Literal["render", "label", "sentence"]) -> dict[str, str]:
        entries = self.kind.placeholders
        return {name: getattr(entries[name], form)(value) for name, value in self.values}


@dataclass(frozen=True, kw_only=True)
class Inner(Parameter):
    """A metric of one of some kinds, measured in another place or another way."""

    kinds: tuple[MetricKind, ...]

    def __post_init__(self) -> None:
        """Take one metric of each kind as examples."""
        object.__setattr__(self, "examples", tuple(next(kind.examples()) for kind in self.kinds))

    def regex(self) -> str:
        """Any text."""
        return ".+"

    def parse(self, text: str) -> Metric:
        """The metric of that name."""
        for kind in self.kinds:
            if metric := kind.match(text):
                return metric
        raise ValueError(f"{text!r} is no metric of {self.kinds}")


OTHER = MetricKind(
    name="{name}",
    description="",
    better="neither",
    leads=True,
    parameters={"name": Parameter()},
)
"""Metrics without declaration: of a custom execution, or of another version."""


def undeclared(name: str) -> Metric:
    """A metric that is known by its name only."""
    return OTHER(name=name)

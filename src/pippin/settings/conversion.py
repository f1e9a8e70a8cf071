# SPDX-License-Identifier: Apache-2.0
"""Conversion of configuration trees to plain JSON values and back, also of earlier records."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import cattrs

from pippin.settings.marks import legacy_defaults, stored_values

MAX_SETTING = 2**53
"""Largest integer in settings: float64 represents every integer up to here."""
LARGEST_STORED = 2**63 - 1
"""Largest integer in a file: modification times in nanoseconds exceed :data:`MAX_SETTING`."""


@cache
def json_converter() -> cattrs.Converter:
    """The converter of all configurations; it never coerces."""
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    converter.register_structure_hook(bool, _strict(bool))
    converter.register_structure_hook(int, _strict(int))
    converter.register_structure_hook(str, _strict(str))
    converter.register_structure_hook(float, _strict(float, int))
    converter.register_structure_hook_func(
        lambda kind: kind == dict[str, Any], _structure_settings(converter)
    )
    converter.register_structure_hook_factory(
        lambda kind: _is_config(kind) and bool(legacy_defaults(kind) or stored_values(kind)),
        lambda kind: _structure_legacy(converter, kind),
    )
    converter.register_unstructure_hook_factory(
        lambda kind: _is_config(kind) and bool(stored_values(kind)),
        lambda kind: _unstructure_stored(converter, kind),
    )
    converter.register_unstructure_hook_func(
        lambda kind: hasattr(kind, "_fields") and issubclass(kind, tuple), list
    )  # as JSON returns it
    return converter


def _is_config(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _structure_settings(converter: cattrs.Converter) -> Callable[[Any, Any], dict[str, Any]]:
    """Cattrs hook of ``dict[str, Any]``: a copy, without a call for each key and each value.

    A results file has a hundred settings in each of thousands of rows. Other keys than strings go
    to the generic hook, for its message.
    """
    structure = converter.gen_structure_mapping(dict[str, Any])

    def structure_settings(values: Any, kind: Any) -> dict[str, Any]:
        if type(values) is dict and set(map(type, values)) <= {str}:
            return dict(values)
        return structure(values, kind)

    return structure_settings


def _structure_legacy(converter: cattrs.Converter, kind: type) -> Callable[..., Any]:
    """Cattrs hook that reads records that lack newer settings."""
    structure: Callable[[Any, Any], Any] = converter.gen_structure_attrs_fromdict(kind)
    defaults, stored = legacy_defaults(kind), stored_values(kind)

    def structure_legacy(values: Any, _: type) -> Any:
        if not isinstance(values, Mapping):
            return structure(values, kind)
        values = {**defaults, **values}
        for name in stored.keys() & values.keys():
            values[name] = _current_value(values[name], stored[name])
        return structure(values, kind)

    return structure_legacy


def _current_value(value: Any, stored: Mapping[Any, Any]) -> Any:
    """Current value of a stored one; 0 is not read as False."""
    for current, stored_value in stored.items():
        if type(value) is type(stored_value) and value == stored_value:
            return current
    return value


def _unstructure_stored(converter: cattrs.Converter, kind: type) -> Callable[..., Any]:
    """Cattrs hook that writes values under their stored names."""
    unstructure: Callable[[Any], Any] = converter.gen_unstructure_attrs_fromdict(kind)
    stored = stored_values(kind)

    def unstructure_stored(config: Any) -> Any:
        values = dict(unstructure(config))
        for name, earlier in stored.items():
            values[name] = earlier.get(values[name], values[name])
        return values

    return unstructure_stored


def _strict(kind: type, *also: type) -> Any:
    """Cattrs hook that refuses to coerce: ``"no"`` is not a boolean, 0.5 is not an integer."""

    def structure(value: Any, _: type) -> Any:
        if type(value) not in (kind, *also):
            raise ValueError(f"expected {kind.__name__}, got {value!r}")
        if type(value) is int and not -LARGEST_STORED <= value <= LARGEST_STORED:
            raise ValueError(
                f"expected a number of at most {LARGEST_STORED}, got {format_number(value)}"
            )
        return kind(value)

    return structure


def format_number(value: float) -> str:
    """Number formatted for a message; a huge one is described by its digits."""
    if isinstance(value, int) and abs(value) > MAX_SETTING:
        return f"a number of {int(math.log10(abs(value))) + 1} digits"
    return str(value)

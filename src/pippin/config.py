# SPDX-License-Identifier: Apache-2.0
"""The base of every configuration: typed, frozen, comparable, recorded as JSON.

A configuration is a tree of frozen keyword-only dataclasses derived from :class:`Config`.
Where a place in the tree admits several classes (a union), each carries a ``kind`` literal.
This module and every ``config.py`` below it import no torch, so that the command line can
show its help at once.
"""

import dataclasses
import difflib
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import cattrs

from pippin.system.files import write_json
from pippin.system.formats import FormatError, read_stamped, write_stamped

C = TypeVar("C", bound="Config")

LARGEST = 2**53
"""The largest whole number in settings: a floating-point number holds each up to here."""
LARGEST_STORED = 2**63 - 1
"""The largest whole number in a file: times of change, in nanoseconds, lie beyond the former."""

NOT_PROTOCOL: dict[str, Any] = {"protocol": False}
"""``field(metadata=NOT_PROTOCOL)`` marks a setting that cannot change what is measured:
paths, device, workers, micro-batch, how often something is logged."""

WHERE_SET: dict[str, Any] = {"protocol": "where set"}
"""``field(default=..., metadata=WHERE_SET)`` marks a setting that came after results were kept,
and whose default is what was done before: it counts where it differs, so that older fingerprints
hold."""


IDENTITY = ("model.sha256", "model.average", "model.start", "model.text_encoder")
"""Entries of a protocol that say which very files were used, beside what the settings name. They
are recorded; whether numbers may be compared does not depend on them, and records of earlier
versions have none."""
UNKNOWN_WEIGHTS = "unknown"
"""Weights of other code whose file does not say whether they are raw or averaged."""
WEIGHTS = re.compile(rf"raw|ema(-images-\d+|-share-\d[\d.e-]*)?|{UNKNOWN_WEIGHTS}")
"""Names of a run's weights: raw ones, their average, and further averages by half-life; and those
of converted weights."""


def added_later(before: Any) -> dict[str, Any]:
    """Metadata of a setting that came after results were kept, and whose default may be another
    value than what was done until then.

    A record without the setting is read as ``before``, so that it is replayed as it was made; and
    the setting counts where it differs from ``before``, so that older fingerprints hold.
    """
    return WHERE_SET | {"before": before}


def counts_as(kind: Callable[[Any], Any]) -> dict[str, Any]:
    """Metadata of a setting of which a protocol holds a kind rather than the value, such as a path
    whose content is a part of every measure's own protocol.

    Args:
        kind: of a value, as the protocol holds it.
    """
    return {"counts as": kind}


def written_as(earlier: dict[str, Any]) -> dict[str, Any]:
    """Metadata of a setting whose values had other names when results were kept.

    Args:
        earlier: value now -> what records and protocols hold for it, so that older ones are read
            and their fingerprints hold. Values that it does not name are written as they are.
    """
    return {"written": earlier}


class ConfigError(ValueError):
    """A configuration that a user gave is wrong; the message says what is allowed."""


def nearest(given: str, known: Iterable[str]) -> str:
    """Of many names those like a wrong one, for a message: ``; near it are a, b``, or nothing."""
    near = difflib.get_close_matches(given, list(known), n=5, cutoff=0.5)
    return f"; near it are {', '.join(near)}" if near else ""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base class of all configurations."""

    FORMAT: ClassVar[str | None] = None
    """The kind of file that :meth:`save` writes, of :data:`pippin.system.formats.FORMATS`; None =
    one without version, which people write."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Settings of :data:`WHERE_SET` have a default that they can be compared with."""
        super().__init_subclass__(**options)
        for name, field in vars(cls).items():  # dataclass() has not seen the class yet
            if (
                isinstance(field, dataclasses.Field)
                and field.metadata.items() >= WHERE_SET.items()
            ):
                assert field.default is not dataclasses.MISSING, (
                    f"{cls.__name__}.{name} is WHERE_SET and has no default= to be compared "
                    "with: a default_factory would make it count always"
                )

    def to_dict(self) -> dict[str, Any]:
        """The whole tree as plain JSON values."""
        return _converter().unstructure(self)

    @classmethod
    def from_dict(cls: type[C], values: Mapping[str, Any]) -> C:
        """The inverse of :meth:`to_dict`.

        Raises:
            ConfigError: an unknown key, a missing key or a value of the wrong type, by path.
        """
        try:
            return _converter().structure(values, cls)
        except Exception as error:  # cattrs raises groups of many kinds; all mean "bad input"
            reasons = "\n  ".join(cattrs.transform_error(error, format_exception=_reason))
            raise ConfigError(f"not a valid {cls.__name__}:\n  {reasons}") from error

    def save(self, path: Path) -> None:
        """Replace a file whole by the tree as JSON, with version and checksum."""
        if self.FORMAT is None:
            write_json(path, self.to_dict())
        else:
            write_stamped(path, self.FORMAT, self.to_dict())

    @classmethod
    def load(cls: type[C], path: Path) -> C:
        """Read what :meth:`save` wrote.

        Raises:
            ConfigError: the file is no JSON object, not the one that was written, or no such
                configuration; it is named.
            FormatError: it is of a newer version.
            OSError: it is not there or cannot be read.
        """
        try:
            values = read_stamped(path, cls.FORMAT)
        except FormatError:
            raise
        except ValueError as error:
            raise ConfigError(str(error)) from error
        try:
            return cls.from_dict(values)
        except ConfigError as error:
            raise ConfigError(f"{path} is {error}") from error


@cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    converter.register_structure_hook(bool, _strict(bool))
    converter.register_structure_hook(int, _strict(int))
    converter.register_structure_hook(str, _strict(str))
    converter.register_structure_hook(float, _strict(float, int))
    converter.register_structure_hook_factory(
        lambda kind: _is_config(kind) and bool(values_before(kind) or names_written(kind)),
        lambda kind: _structure_older(converter, kind),
    )
    converter.register_unstructure_hook_factory(
        lambda kind: _is_config(kind) and bool(names_written(kind)),
        lambda kind: _unstructure_written(converter, kind),
    )
    converter.register_unstructure_hook_func(
        lambda kind: hasattr(kind, "_fields") and issubclass(kind, tuple), list
    )  # what JSON gives back
    return converter


def _is_config(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Config)


def names_written(kind: type[Config]) -> dict[str, dict[str, Any]]:
    """Settings of :func:`written_as`: value now -> what records hold for it."""
    named = {field.name: field.metadata for field in dataclasses.fields(kind)}
    return {name: about["written"] for name, about in named.items() if "written" in about}


def values_before(kind: type[Config]) -> dict[str, Any]:
    """Settings of :func:`added_later`, and what a record without them means."""
    named = {field.name: field.metadata for field in dataclasses.fields(kind)}
    return {name: about["before"] for name, about in named.items() if "before" in about}


def _structure_older(converter: cattrs.Converter, kind: type[Config]) -> Callable[..., Any]:
    """A cattrs hook that reads records which are older than some settings."""
    structure, before = converter.gen_structure_attrs_fromdict(kind), values_before(kind)
    written = names_written(kind)

    def older(values: Any, _: type) -> Any:
        if not isinstance(values, Mapping):
            return structure(values, kind)
        values = {**before, **values}
        for name in written.keys() & values.keys():
            values[name] = _read_value(values[name], written[name])
        return structure(values, kind)

    return older


def _read_value(value: Any, written: Mapping[Any, Any]) -> Any:
    """The value now of one in a record; 0 is not taken for False."""
    for now, earlier in written.items():
        if type(value) is type(earlier) and value == earlier:
            return now
    return value


def _unstructure_written(converter: cattrs.Converter, kind: type[Config]) -> Callable[..., Any]:
    """A cattrs hook that writes values by the names that records have."""
    unstructure, written = converter.gen_unstructure_attrs_fromdict(kind), names_written(kind)

    def record(config: Any) -> Any:
        values = dict(unstructure(config))
        for name, earlier in written.items():
            values[name] = earlier.get(values[name], values[name])
        return values

    return record


def older_settings(config: Config, record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings that came after a configuration was recorded, and what was done then.

    Args:
        config: of now.
        record: what :meth:`Config.to_dict` gave then, for the same kind of configuration.

    Returns:
        Dotted path of each setting of :func:`added_later` that the record lacks -> its value then.
    """
    found = {
        f"{prefix}{name}": value
        for name, value in values_before(type(config)).items()
        if name not in record
    }
    for field in dataclasses.fields(config):
        child, below = getattr(config, field.name), record.get(field.name)
        if isinstance(child, Config) and isinstance(below, Mapping):
            found |= older_settings(child, below, f"{prefix}{field.name}.")
    return found


def _reason(error: BaseException, kind: Any) -> str:
    """A refusal of ours says itself what is allowed."""
    if isinstance(error, ConfigError):
        return str(error)
    return cattrs.v.format_exception(error, kind)


def read_by_kind(base: type[Config], find: Callable[[str], type[Config]]) -> None:
    """Let a place of the tree that is declared as ``base`` hold further classes of it.

    Args:
        base: what configurations declare.
        find: the class of a ``kind``; its ConfigError is what a reader of an unknown one sees.
    """
    converter = _converter()

    def structure(values: Any, _: type) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("kind"), str):
            raise ConfigError(f"expected settings with a kind, got {values!r}")
        return converter.structure(values, find(values["kind"]))

    converter.register_structure_hook_func(lambda kind: kind is base, structure)
    converter.register_unstructure_hook_func(lambda kind: kind is base, converter.unstructure)


def check_record(config: Config) -> None:
    """Refuse a configuration that could not be read again from its own record.

    Raises:
        ConfigError: naming what is not read, or read as something else.
    """
    try:
        record = json.loads(json.dumps(config.to_dict()))
    except TypeError as error:  # a NumPy scalar, for example
        raise ConfigError(
            f"this {type(config).__name__} cannot be recorded: {error}. Give plain numbers and "
            "text, such as int(x) or x.item()"
        ) from error
    again = type(config).from_dict(record)
    if json.loads(json.dumps(again.to_dict())) != record:  # by value: 4 is 4.0
        lines = "".join(
            f"\n  {p}: {a!r} and {b!r}" for p, (a, b) in difference(config, again).items()
        )
        raise ConfigError(
            f"this {type(config).__name__} is read from its record as another one:{lines}"
        )


def _strict(kind: type, *also: type) -> Any:
    """A cattrs hook that refuses to coerce: ``"no"`` is not a boolean, 0.5 is not an integer."""

    def structure(value: Any, _: type) -> Any:
        if type(value) not in (kind, *also):
            raise ValueError(f"expected {kind.__name__}, got {value!r}")
        if type(value) is int and not -LARGEST_STORED <= value <= LARGEST_STORED:
            raise ValueError(f"expected a number of at most {LARGEST_STORED}, got {short(value)}")
        return kind(value)

    return structure


def short(value: float) -> str:
    """A number for a message, whatever its length."""
    if isinstance(value, int) and abs(value) > LARGEST:
        return f"a number of {int(math.log10(abs(value))) + 1} digits"
    return str(value)


def at_least(config: Config, section: str, lowest: float, *names: str) -> None:
    """Refuse settings below a bound, and numbers that are not finite; for ``__post_init__``.

    Args:
        config: what is checked; a setting of None passes.
        section: where it stands in a recipe, such as ``train``: messages give ``train.images``.
        lowest: what is still allowed.
        names: settings of ``config``.

    Raises:
        ConfigError: naming the setting, what is allowed and what was given.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not lowest <= value <= LARGEST:
            limit = f" and at most {LARGEST}" if value > lowest else ""
            raise ConfigError(
                f"{section}.{name} must be {lowest} or more{limit}; got {short(value)}"
            )


def above(config: Config, section: str, bound: float, *names: str) -> None:
    """As :func:`at_least` for settings that must exceed the bound."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not bound < value <= LARGEST:
            limit = f" and at most {LARGEST}" if value > bound else ""
            raise ConfigError(
                f"{section}.{name} must be more than {bound}{limit}; got {short(value)}"
            )


def within(config: Config, section: str, lowest: float, highest: float, *names: str) -> None:
    """As :func:`at_least` for settings between two bounds, both allowed."""
    for name in names:
        value = getattr(config, name)
        if not lowest <= value <= highest:
            raise ConfigError(
                f"{section}.{name} must lie between {lowest} and {highest}; got {value}"
            )


def known_weights(config: Config, section: str) -> None:
    """Refuse a setting ``weights`` that cannot be the name of any; for ``__post_init__``.

    Raises:
        ConfigError: saying which names there can be.
    """
    value = getattr(config, "weights")  # noqa: B009 (not every configuration has it)
    if WEIGHTS.fullmatch(value) is None:
        raise ConfigError(
            f"{section}.weights must be ema, raw, or a further average of train.ema_extra such as "
            f"ema-share-0.1 or ema-images-500000; got {value!r}"
        )


def protocol(config: Config, prefix: str = "", *, everywhere: bool = False) -> dict[str, Any]:
    """The settings that can change a measured number, by dotted path.

    Args:
        config: the tree.
        prefix: before each path.
        everywhere: also settings that count where they differ, where they do not.
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        counts = field.metadata.get("protocol", True)
        value, path = getattr(config, field.name), f"{prefix}{field.name}"
        silent = value == field.metadata.get("before", field.default) and not everywhere
        if not counts or (counts == "where set" and silent):
            continue
        if isinstance(value, Config):
            found |= protocol(value, f"{path}.", everywhere=everywhere)
        else:
            plain = _converter().unstructure(value)
            names, kind = field.metadata.get("written", {}), field.metadata.get("counts as")
            found[path] = kind(plain) if kind else names.get(plain, plain) if names else plain
    return found


def fingerprint(values: Config | Mapping[str, Any]) -> str:
    """16 hexadecimal digits that name a protocol."""
    content = protocol(values) if isinstance(values, Config) else dict(values)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def difference(first: Config, second: Config) -> dict[str, tuple[Any, Any]]:
    """Protocol settings that differ: path -> (first's, second's); None = absent."""
    a, b = protocol(first), protocol(second)
    paths = [path for path in [*a, *(p for p in b if p not in a)] if a.get(path) != b.get(path)]
    there, here = protocol(first, everywhere=True), protocol(second, everywhere=True)
    return {path: (there.get(path), here.get(path)) for path in paths}


def replace_at(config: Config, path: str, value: Any) -> Any:
    """A copy of the tree with the setting at a dotted path replaced.

    Raises:
        ConfigError: the path does not exist; the message lists what stands at that level.
    """
    name, _, rest = path.partition(".")
    names = [field.name for field in dataclasses.fields(config)]
    if name not in names:
        raise ConfigError(f"{type(config).__name__} has no {name!r}; it has: {', '.join(names)}")
    if rest:
        child = getattr(config, name)
        if not isinstance(child, Config):
            raise ConfigError(f"{name!r} of {type(config).__name__} holds no {rest!r}")
        value = replace_at(child, rest, value)
    return dataclasses.replace(config, **{name: value})

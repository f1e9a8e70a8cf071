# SPDX-License-Identifier: Apache-2.0
"""Base class of every configuration: typed, frozen, comparable, recorded as JSON.

A configuration is a tree of frozen keyword-only dataclasses derived from :class:`Config`.
Where a field admits several classes (a union), each class has a ``kind`` literal. This module and
every ``config.py`` below it import no torch, so that the command line shows its help quickly.
"""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import cattrs

from pippin.settings.conversion import json_converter
from pippin.settings.marks import PROTOCOL_IF_CHANGED, default_of, legacy_defaults
from pippin.system.files import write_json
from pippin.system.formats import FormatError, read_versioned_json, write_versioned_json

C = TypeVar("C", bound="Config")

IDENTITY = (
    "model.sha256",
    "model.average",
    "model.start",
    "model.text_encoder",
    "guide.sha256",
)
"""Protocol entries that identify the files that were used. They are recorded, but the
comparability of numbers does not depend on them, and records of earlier versions lack them."""


class ConfigError(ValueError):
    """Invalid configuration of the user; the message says what is allowed."""


def suggest_names(name: str, candidates: Iterable[str]) -> str:
    """Suggestions for a wrong name, for a message: ``; near it are a, b``, or nothing."""
    matches = difflib.get_close_matches(name, list(candidates), n=5, cutoff=0.5)
    return f"; near it are {', '.join(matches)}" if matches else ""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base class of all configurations."""

    FORMAT: ClassVar[str | None] = None
    """Kind of file that :meth:`save` writes, of :data:`pippin.system.formats.FORMATS`; None = a
    file without version, which people write."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Check that settings of :data:`PROTOCOL_IF_CHANGED` have a default."""
        super().__init_subclass__(**options)
        for name, field in vars(cls).items():  # dataclass() has not seen the class yet
            if (
                isinstance(field, dataclasses.Field)
                and field.metadata.items() >= PROTOCOL_IF_CHANGED.items()
            ):
                assert default_of(field) is not dataclasses.MISSING, (
                    f"{cls.__name__}.{name} is PROTOCOL_IF_CHANGED and has no default to be "
                    "compared with"
                )

    def to_dict(self) -> dict[str, Any]:
        """Configuration tree as plain JSON values."""
        return json_converter().unstructure(self)

    @classmethod
    def from_dict(cls: type[C], values: Mapping[str, Any]) -> C:
        """Inverse of :meth:`to_dict`.

        Raises:
            ConfigError: an unknown key, a missing key or a value of the wrong type; its path is
                named.
        """
        try:
            return json_converter().structure(values, cls)
        except Exception as error:  # cattrs raises exception groups of many types for bad input
            reasons = "\n  ".join(cattrs.transform_error(error, format_exception=_format_error))
            raise ConfigError(f"not a valid {cls.__name__}:\n  {reasons}") from error

    def save(self, path: Path) -> None:
        """Write the tree as JSON, with version and checksum; replaces a file atomically."""
        if self.FORMAT is None:
            write_json(path, self.to_dict())
        else:
            write_versioned_json(path, self.FORMAT, self.to_dict())

    @classmethod
    def load(cls: type[C], path: Path) -> C:
        """Load a file of :meth:`save`.

        Raises:
            ConfigError: the file is not a JSON object, was changed, or holds another
                configuration; it is named.
            FormatError: the file is of a newer version.
            OSError: the file is missing or cannot be read.
        """
        try:
            values = read_versioned_json(path, cls.FORMAT)
        except FormatError:
            raise
        except ValueError as error:
            raise ConfigError(str(error)) from error
        try:
            return cls.from_dict(values)
        except ConfigError as error:
            unknown = cls.FORMAT is not None and "extra fields found" in str(error)
            advice = "\nif a newer pippin wrote this file, upgrade pippin" if unknown else ""
            raise ConfigError(f"{path} is {error}{advice}") from error


def legacy_settings(config: Config, record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings that were added after a configuration was recorded, with their earlier values.

    Args:
        config: current configuration.
        record: earlier result of :meth:`Config.to_dict`, for the same class of configuration.

    Returns:
        Dotted path of each setting of :func:`added_later` that the record lacks -> earlier value.
    """
    settings = {
        f"{prefix}{name}": value
        for name, value in legacy_defaults(type(config)).items()
        if name not in record
    }
    for field in dataclasses.fields(config):
        child, child_record = getattr(config, field.name), record.get(field.name)
        if isinstance(child, Config) and isinstance(child_record, Mapping):
            settings |= legacy_settings(child, child_record, f"{prefix}{field.name}.")
    return settings


def _format_error(error: BaseException, kind: Any) -> str:
    """Message of an error; a ConfigError already says what is allowed."""
    if isinstance(error, ConfigError):
        return str(error)
    text = cattrs.v.format_exception(error, kind)
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        names = [field.name for field in dataclasses.fields(error.cl)]
        text += "".join(suggest_names(name, names) for name in sorted(error.extra_fields))
    return text


def read_by_kind(base: type[Config], find: Callable[[str], type[Config]]) -> None:
    """Let fields declared as ``base`` hold its subclasses, selected by ``kind``.

    Args:
        base: declared class.
        find: function from a ``kind`` to its class; raises a ConfigError for an unknown kind.
    """
    converter = json_converter()

    def structure(values: Any, _: type) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("kind"), str):
            raise ConfigError(f"expected settings with a kind, got {values!r}")
        return converter.structure(values, find(values["kind"]))

    converter.register_structure_hook_func(lambda kind: kind is base, structure)
    converter.register_unstructure_hook_func(lambda kind: kind is base, converter.unstructure)


def check_record(config: Config) -> None:
    """Refuse a configuration that cannot be restored from its own record.

    Raises:
        ConfigError: a value that cannot be recorded, or is restored as another value; it is named.
    """
    try:
        record = json.loads(json.dumps(config.to_dict()))
    except TypeError as error:  # a NumPy scalar, for example
        raise ConfigError(
            f"this {type(config).__name__} cannot be recorded: {error}. Give plain numbers and "
            "text, such as int(x) or x.item()"
        ) from error
    restored = type(config).from_dict(record)
    if json.loads(json.dumps(restored.to_dict())) != record:  # by value: 4 is 4.0
        lines = "".join(
            f"\n  {p}: {a!r} and {b!r}" for p, (a, b) in difference(config, restored).items()
        )
        raise ConfigError(
            f"this {type(config).__name__} is read from its record as another one:{lines}\n"
            "Let __post_init__ keep the values that it is given"
        )


def protocol(config: Config, prefix: str = "", *, everywhere: bool = False) -> dict[str, Any]:
    """Settings that can change a measured number, by dotted path.

    Args:
        config: the tree.
        prefix: prefix of each path.
        everywhere: include settings of :data:`PROTOCOL_IF_CHANGED` at their default value.
    """
    settings: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        counts = field.metadata.get("protocol", True)
        value, path = getattr(config, field.name), f"{prefix}{field.name}"
        if not counts or (counts == "where set" and not everywhere and _is_earlier(field, value)):
            continue
        if isinstance(value, Config):
            settings |= protocol(value, f"{path}.", everywhere=everywhere)
        else:
            stored = json_converter().unstructure(value)
            stored_names, kind = field.metadata.get("written", {}), field.metadata.get("counts as")
            settings[path] = (
                kind(stored)
                if kind
                else stored_names.get(stored, stored)
                if stored_names
                else stored
            )
    return settings


def _is_earlier(field: dataclasses.Field[Any], value: Any) -> bool:
    """Whether a setting has the value from before it was added."""
    before = field.metadata.get("before", dataclasses.MISSING)
    return bool(value == (default_of(field) if before is dataclasses.MISSING else before))


def fingerprint(values: Config | Mapping[str, Any]) -> str:
    """Fingerprint of a protocol, 16 hexadecimal digits."""
    content = protocol(values) if isinstance(values, Config) else dict(values)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def difference(first: Config, second: Config) -> dict[str, tuple[Any, Any]]:
    """Protocol settings that differ: path -> (first's, second's); None = absent."""
    a, b = protocol(first), protocol(second)
    paths = [path for path in [*a, *(p for p in b if p not in a)] if a.get(path) != b.get(path)]
    first_settings, second_settings = (
        protocol(first, everywhere=True),
        protocol(second, everywhere=True),
    )
    return {path: (first_settings.get(path), second_settings.get(path)) for path in paths}


def replace_at(config: Config, path: str, value: Any) -> Any:
    """Copy of the tree with the setting at a dotted path replaced.

    Raises:
        ConfigError: the path does not exist; the message lists the settings at that level.
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

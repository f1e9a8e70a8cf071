# SPDX-License-Identifier: Apache-2.0
"""Bounds of settings, for ``__post_init__`` of configurations."""

from pippin.config import Config, ConfigError
from pippin.settings.conversion import MAX_SETTING, format_number


def at_least(config: Config, section: str, lowest: float, *names: str) -> None:
    """Refuse settings below a bound, and numbers that are not finite; for ``__post_init__``.

    Args:
        config: checked configuration; a setting of None passes.
        section: its path in a recipe, such as ``train``: messages give ``train.images``.
        lowest: smallest allowed value.
        names: settings of ``config``.

    Raises:
        ConfigError: a value below the bound; the setting, the bound and the value are named.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not lowest <= value <= MAX_SETTING:
            limit = f" and at most {MAX_SETTING}" if value > lowest else ""
            raise ConfigError(
                f"{section}.{name} must be {lowest} or more{limit}; got {format_number(value)}"
            )


def above(config: Config, section: str, bound: float, *names: str) -> None:
    """Like :func:`at_least`, for settings that must exceed the bound."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not bound < value <= MAX_SETTING:
            limit = f" and at most {MAX_SETTING}" if value > bound else ""
            raise ConfigError(
                f"{section}.{name} must be more than {bound}{limit}; got {format_number(value)}"
            )


def within(config: Config, section: str, lowest: float, highest: float, *names: str) -> None:
    """Like :func:`at_least`, for settings between two bounds, both allowed."""
    for name in names:
        value = getattr(config, name)
        if not lowest <= value <= highest:
            raise ConfigError(
                f"{section}.{name} must lie between {lowest} and {highest}; got {value}"
            )

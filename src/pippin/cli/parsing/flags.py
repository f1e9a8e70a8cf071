# SPDX-License-Identifier: Apache-2.0
"""Values on the command line: flags without a value, whole numbers, and the word None."""

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

from pippin.cli.parsing.option_table import Option

FACTORS = {"": 1, "k": 1_000, "K": 1_000, "M": 1_000_000}
"""Suffix -> factor. No lower-case m, which is milli elsewhere."""
_NUMBER = re.compile(r"([+-]?\d+(?:_\d+)*(?:\.\d+)?(?:[eE][+-]?\d{1,2})?)([kKM]?)", re.ASCII)


def parse_integer(text: str) -> int:
    """Parse a whole number, exactly.

    Raises:
        ValueError: anything else, such as 1.5 or 1e-3.
    """
    number = _NUMBER.fullmatch(text.strip())
    if number is not None:
        value = Fraction(number[1].replace("_", "")) * FACTORS[number[2]]
        if value.denominator == 1:
            return int(value)
    raise ValueError(
        f"give a whole number, such as 1000000, 1_000_000, 1e6, 500k or 2M; got {text!r}"
    )


TEXTS = ("negative_prompt",)
"""Fields that hold a text of the user, or None."""


def refuse_none_word(arguments: Sequence[str], options: Mapping[str, Option]) -> None:
    """Refuse the word None for an option that holds a text and is not set: it would be read as no
    text, where a user may mean the word.

    Args:
        arguments: words after the verb and its recipe or folder.
        options: options of the command by name.

    Raises:
        ValueError: the message says how to give the word, and how to give no text.
    """
    unset = [f"--{name}" for name, o in options.items() if o.field in TEXTS and o.default is None]
    words = [word for argument in arguments for word in argument.split("=", 1)]
    for name, value in pairwise(words):
        if name.replace("_", "-") in unset and value == "None":
            raise ValueError(
                f"{name} None: the word None unsets an option, and this one is not set. Leave the "
                f"option out, or for a text of this word type {name} ' None', with a space"
            )


def expand_flags(arguments: Sequence[str], options: Mapping[str, Option]) -> list[str]:
    """Arguments in which every boolean option has its value.

    ``--x`` becomes ``--x True``, ``--no-x`` becomes ``--x False``. A nested option is negated as
    ``--no-train.compile`` or ``--train.no-compile``. ``--x True`` and ``--x auto`` stay, and
    ``--x true`` is read as ``--x True``.

    Args:
        arguments: words after the verb and its recipe or folder.
        options: options of the command by name.

    Raises:
        ValueError: a negated option with a value.
    """
    positional = any(option.positional for option in options.values())
    expanded: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word == "--":
            return [*expanded, word, *words]
        name, equals, value = word.partition("=")
        option, negated = _boolean(name, options)
        if option is None:
            expanded.append(word)
        elif negated:
            if equals or (words and words[0].lower() in ("true", "false")):
                raise ValueError(
                    f"{name} takes no value, got {value if equals else words[0]!r}; "
                    f"give {name} or --{option.name} True"
                )
            expanded += [f"--{option.name}", "False"]
        elif equals:
            expanded += [f"--{option.name}", _spelled(value, option)]
        else:
            given = words and not words[0].startswith("-")
            takes = given and (not positional or _spelled(words[0], option) in option.words)
            expanded += [name, _spelled(words.pop(0), option) if takes else "True"]
    return expanded


def _boolean(word: str, options: Mapping[str, Option]) -> tuple[Option | None, bool]:
    """Boolean option of a word, and whether the word negates it."""
    if not word.startswith("--"):
        return None, False
    name = word[2:].replace("_", "-")
    if name in options:
        return (options[name] if options[name].boolean else None), False
    group, dot, last = name.rpartition(".")
    candidates = [name.removeprefix("no-")] if name.startswith("no-") else []
    candidates += [group + dot + last.removeprefix("no-")] if last.startswith("no-") else []
    for candidate in candidates:
        if candidate in options and options[candidate].boolean:
            return options[candidate], True
    return None, False


def _spelled(value: str, option: Option) -> str:
    """Value in the case of the option's own words."""
    return next((word for word in option.words if word.lower() == value.lower()), value)

# SPDX-License-Identifier: Apache-2.0
"""Parsing of command-line arguments into configurations."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from pippin.cli.parsing.common_options import Groups, common_help
from pippin.cli.parsing.flags import expand_flags, parse_integer, refuse_none_word
from pippin.cli.parsing.option_table import option_table
from pippin.cli.parsing.verb_help import HELP
from pippin.config import ConfigError
from pippin.data.config import DataConfig, ImagesConfig, OpenMojiConfig, ShapesConfig
from pippin.settings.conversion import MAX_SETTING
from pippin.system.text import print_text
from pippin.training.averaging.config import Average, ImagesHalfLife, PowerProfile, ShareHalfLife

T = TypeVar("T")
_registry = ConstructorRegistry()


@_registry.primitive_rule
def _integer(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[int] | None:
    """``1e5``, ``500k`` or ``2M`` beside plain digits, for every option that is an integer."""
    if info.type is not int:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda words: parse_integer(words[0]),
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    )


@_registry.primitive_rule
def _weights(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[dict[str, float]] | None:
    """``name 0.5 caption_blip 0.5``: any names; tyro would allow only those of the default."""
    if info.type != dict[str, float]:
        return None
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="NAME WEIGHT [NAME WEIGHT ...]",
        instance_from_str=parse_weights,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [str(part) for pair in value.items() for part in pair],
    )


@_registry.primitive_rule
def _averages(
    info: PrimitiveTypeInfo,
) -> PrimitiveConstructorSpec[tuple[Average, ...]] | None:
    """``share-0.1 images-500000``: any number; tyro would allow only as many as the default."""
    if info.type != tuple[Average, ...]:
        return None
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="share-SHARE|images-N|power-WIDTH ...",
        instance_from_str=lambda words: tuple(map(parse_average, words)),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [average.name.removeprefix("ema-") for average in value],
    )


@_registry.primitive_rule
def _names(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[dict[str, str]] | None:
    """``reservation=course mail-type=END``: any names, as for weights."""
    if info.type != dict[str, str]:
        return None
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="NAME=VALUE ...",
        instance_from_str=parse_names,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [f"{name}={text}" for name, text in value.items()],
    )


def parse_names(words: list[str]) -> dict[str, str]:
    """Parse NAME=VALUE words.

    Raises:
        ValueError: a word without = or without a name.
    """
    values = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise ValueError(f"give NAME=VALUE; got {word!r}")
        values[name] = value
    return values


def parse_average(text: str) -> Average:
    """Parse ``share-0.1`` (half-life in shares of the run), ``images-500000`` or ``power-0.1``
    (relative width).

    Raises:
        ValueError: anything else.
    """
    kind, _, number = text.removeprefix("ema-").partition("-")
    try:
        if kind == "share":
            return ShareHalfLife(share=float(number))
        if kind == "images":
            return ImagesHalfLife(images=parse_integer(number))
        if kind == "power":
            return PowerProfile(sigma_rel=float(number))
    except ConfigError:
        raise
    except ValueError:
        pass
    raise ValueError(
        "an average must look like power-0.1, a relative width, or like a half-life, share-0.1 or "
        f"images-500000; got {text!r}"
    )


def parse_weights(words: list[str]) -> dict[str, float]:
    """Parse alternating names and weights.

    Raises:
        ValueError: no pairs, or a repeated name.
    """
    names, weights = words[::2], words[1::2]
    try:
        pairs = {name: float(weight) for name, weight in zip(names, weights, strict=True)}
    except ValueError:
        pairs = {}
    if len(pairs) < len(names) or not pairs:
        raise ValueError(
            "give each name once, with its weight, such as: name 0.5 caption_blip 0.5; got "
            f"{' '.join(words) or 'nothing'}"
        )
    return pairs


def parse(
    kind: type[T],
    prog: str,
    arguments: list[str],
    default: Any = None,
    common: Groups | None = None,
) -> T:
    """Parse arguments into a typed command; boolean options may be given without a value.

    A setting of several possible classes keeps its default's class: another class is another
    recipe.

    Args:
        kind: class of the command.
        prog: command in the usage line, such as ``pippin train RECIPE``.
        arguments: words after it.
        default: instance with the defaults.
        common: options that ``--help`` lists; None = all.

    Raises:
        SystemExit: help was asked for, or the arguments are wrong.
    """
    if common is not None and "--help-all" not in arguments and set(HELP) & set(arguments):
        print_text(common_help(kind, prog, default, common))
        raise SystemExit(0)
    words = ["--help" if word == "--help-all" else word for word in arguments]
    options = option_table(kind, default)
    refuse_none_word(words, options)
    return tyro.cli(
        kind,
        prog=prog,
        args=expand_flags(words, options),
        default=tyro.MISSING_NONPROP if default is None else default,
        registry=_registry,
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff),
    )


@dataclass(frozen=True, kw_only=True)
class DataLocation:
    """Location of a trained model's images. A record of their content verifies that they are those
    of its training."""

    path: str | None = None
    """Folder of the images, if it has moved since training."""


def chosen_data(arguments: Sequence[str]) -> DataConfig:
    """Data configuration whose options apply: an image folder with --data.path, shapes with
    --data.kind shapes, otherwise OpenMoji."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    if "--data.path" in words:
        return ImagesConfig()
    if ("--data.kind", "shapes") in pairwise(words):
        return ShapesConfig()
    return OpenMojiConfig()


MAX_SEEDS = 10_000_000
"""Maximum number of seeds of one command; each is an image."""


def parse_seeds(text: str) -> list[int]:
    """Parse ``0:64`` (64 excluded), ``7``, or ``1,5,9``.

    Raises:
        ValueError: anything else, an empty range, or too many or too large seeds.
    """
    seeds: Sequence[int] = ()
    try:
        if ":" in text:
            start, stop = map(int, text.split(":"))
            # A longer range may exceed what a list, or len, can hold.
            seeds = range(start, min(stop, start + MAX_SEEDS + 1))
        else:
            seeds = [int(part) for part in text.split(",")]
    except ValueError:
        pass
    if not seeds or min(seeds) < 0:
        raise ValueError(f"seeds must look like 0:64, 7 or 1,5,9; got {text[:80]!r}")
    if len(seeds) > MAX_SEEDS or max(seeds) > MAX_SETTING:
        raise ValueError(
            f"at most {MAX_SEEDS} seeds are allowed, each at most {MAX_SETTING}; got "
            f"{text[:80]!r}: run several parts one after the other, such as 0:1000000 and "
            "1000000:2000000"
        )
    return list(seeds)

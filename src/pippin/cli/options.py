# SPDX-License-Identifier: Apache-2.0
"""How the verbs turn arguments into configurations."""

from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from pippin.data.config import DataConfig, ImagesConfig, OpenMojiConfig

T = TypeVar("T")


def parse(kind: type[T], prog: str, arguments: list[str], default: Any = None) -> T:
    """A typed command from its arguments; booleans are written True or False.

    Where a setting admits several classes, its default's class stays: another class is another
    recipe.
    """
    return tyro.cli(
        kind,
        prog=prog,
        args=arguments,
        default=tyro.MISSING_NONPROP if default is None else default,
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff),
    )


def chosen_data(arguments: Sequence[str]) -> DataConfig:
    """The kind of data whose options are shown: own pictures where --data.path is given."""
    own = any(one.partition("=")[0] == "--data.path" for one in arguments)
    return ImagesConfig() if own else OpenMojiConfig()


def parse_seeds(text: str) -> list[int]:
    """``0:64`` (64 is left out), ``7``, or ``1,5,9``.

    Raises:
        ValueError: anything else, or an empty range.
    """
    try:
        if ":" in text:
            start, stop = map(int, text.split(":"))
            seeds = list(range(start, stop))
        else:
            seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0:
        raise ValueError(f"seeds must look like 0:64, 7 or 1,5,9; got {text!r}")
    return seeds

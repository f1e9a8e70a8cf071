# SPDX-License-Identifier: Apache-2.0
"""The command that a user typed, for messages that name what to type next."""

from collections.abc import Sequence
from shlex import join

from pippin.cli.imports import OPTION
from pippin.system.ranks import get_world_size


def whole_command(verb: str, arguments: Sequence[str]) -> str:
    """``pippin VERB ...`` with quoted arguments and what was imported; under torchrun its own
    options are dots."""
    from pippin.plugins import imported_modules

    launcher = ["pippin"] if get_world_size() == 1 else ["torchrun", "...", "-m", "pippin"]
    imports = [word for name in imported_modules() for word in (OPTION, name)]
    return join([*launcher, verb, *arguments, *imports])


def retry_command(verb: str, arguments: Sequence[str]) -> str:
    """Command that continues after a stop at any point, with or without a checkpoint."""
    if verb == "train":
        arguments = [*_without_resume(arguments), "--resume", "auto"]
    elif verb == "autoencoder" and arguments[:1] == ["train"]:
        arguments = [*_without_resume(arguments), "--resume", "True"]
    return whole_command(verb, arguments)


def _without_resume(arguments: Sequence[str]) -> list[str]:
    kept: list[str] = []
    value_follows = False
    for argument in arguments:
        if value_follows and not argument.startswith("-"):
            value_follows = False
            continue
        option = argument.partition("=")[0]
        value_follows = argument == "--resume"
        if option not in ("--resume", "--no-resume"):
            kept.append(argument)
    return kept

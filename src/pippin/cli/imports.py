# SPDX-License-Identifier: Apache-2.0
"""``--import MODULE``, which every verb accepts: modules that register classes of their own."""

from collections.abc import Sequence

OPTION = "--import"


def take_imports(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split ``--import MODULE``, at any place and any number of times, from other arguments.

    Returns:
        Names of the modules, and the other arguments.

    Raises:
        ValueError: no name follows.
    """
    modules, others = [], []
    words = iter(arguments)
    for word in words:
        option, equals, name = word.partition("=")
        if option != OPTION:
            others.append(word)
            continue
        name = name if equals else next(words, "")
        if not name or name.startswith("-"):
            raise ValueError(
                f"{OPTION} needs the name of a module, got {name or 'nothing'}; type {OPTION} "
                "MODULE, once for each module"
            )
        modules.append(name)
    return modules, others

# SPDX-License-Identifier: Apache-2.0
"""Conditioners by name: ours, and those that a program registers before it builds a model.

A recipe holds the name alone (``conditioning.conditioner``), never a module to import: a
checkpoint of somebody else cannot make pippin run code that its user did not register.
"""

from pippin.conditioning.conditioner import Conditioner
from pippin.config import ConfigError

_REGISTERED: dict[str, type[Conditioner]] = {"pippin": Conditioner}


def register_conditioner(name: str, kind: type[Conditioner]) -> None:
    """Make a conditioner known as ``conditioning.conditioner NAME`` in this process.

    Args:
        name: what recipes and reports call it.
        kind: a subclass of :class:`Conditioner` that overrides what it does in another way:
            ``prepare``, or one of its parts. What ``prepare`` returns answers ``at(t)`` with an
            :class:`pippin.types.Embedded`: tokens of ``token_width`` where ``has_tokens``, and a
            modulation vector of ``modulation_width`` that contains time. What ``keep`` drops must
            be as if it had not been given. Its layers say how they start
            (:mod:`pippin.nn.initialise`), so that layers of one name start alike in every arm.

    Raises:
        ConfigError: the name is taken by another class.
    """
    known = _REGISTERED.get(name, kind)
    if (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__):
        raise ConfigError(
            f"a conditioner called {name!r} is registered already; choose another name"
        )
    _REGISTERED[name] = kind  # a class that was defined anew, as in a notebook, takes its place


def find_conditioner(name: str) -> type[Conditioner]:
    """The class of a name.

    Raises:
        ConfigError: nothing of that name was registered in this process.
    """
    if name not in _REGISTERED:
        raise ConfigError(
            f"conditioning.conditioner {name!r} is not registered; there are: "
            f"{', '.join(_REGISTERED)}. Call register_conditioner({name!r}, YourClass) first, in "
            "the program that trains, samples or measures"
        )
    return _REGISTERED[name]

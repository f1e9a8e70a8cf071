# SPDX-License-Identifier: Apache-2.0
"""Registry of conditioners by name: pippin's, and those that a program registers.

A recipe contains only the name (``conditioning.conditioner``), never a module to import: a
downloaded checkpoint cannot make pippin run code that its user did not register, import or install
as a plugin.
"""

from pippin.conditioning.conditioner import Conditioner
from pippin.config import ConfigError
from pippin.plugins import load_plugins, register_advice

_REGISTERED: dict[str, type[Conditioner]] = {"pippin": Conditioner}


def register_conditioner(name: str, kind: type[Conditioner]) -> None:
    """Register a conditioner as ``conditioning.conditioner NAME`` in this process.

    Args:
        name: its name in recipes and reports.
        kind: a subclass of :class:`Conditioner` that overrides ``prepare`` or one of its parts.
            The result of ``prepare`` has a method ``at(t)`` that returns an
            :class:`pippin.types.Embedded`: tokens of ``token_width`` if ``has_tokens``, and a
            modulation vector of ``modulation_width`` that contains time. Conditions dropped by
            ``keep`` must have no effect. Its layers declare their initialisation
            (:mod:`pippin.nn.initialise`), so that layers of equal name have equal initial weights
            in every arm.

    Raises:
        ConfigError: another class has this name.
    """
    registered = _REGISTERED.get(name, kind)
    if (registered.__module__, registered.__qualname__) != (kind.__module__, kind.__qualname__):
        raise ConfigError(
            f"a conditioner named {name!r} is registered already; choose another name"
        )
    _REGISTERED[name] = kind  # a redefined class, as in a notebook, replaces it


def find_conditioner(name: str) -> type[Conditioner]:
    """Class of a registered name.

    Raises:
        ConfigError: the name is not registered in this process, nor by an installed plugin.
    """
    if name not in _REGISTERED:
        load_plugins()
    if name not in _REGISTERED:
        raise ConfigError(
            f"conditioning.conditioner {name!r} is not registered; registered are: "
            f"{', '.join(_REGISTERED)}; " + register_advice("register_conditioner")
        )
    return _REGISTERED[name]

# SPDX-License-Identifier: Apache-2.0
"""Conditioners by name: ours, and those that a program registers before it builds a model.

A recipe holds the name alone (``conditioning.conditioner``), never a module to import: a
checkpoint of somebody else cannot make pippin run code that its user did not register.
"""

from typing import Protocol, runtime_checkable

from torch import nn

from pippin.conditioning.conditioner import Conditioner
from pippin.conditioning.config import ConditioningConfig
from pippin.config import ConfigError
from pippin.types import Conditions, Embedded, Keep, Times


@runtime_checkable
class PreparedConditions(Protocol):
    """Conditions of a batch, embedded as far as time allows."""

    def at(self, t: Times) -> Embedded:
        """What the denoiser reads at times t (batch,) in [0, 1000]."""
        ...


@runtime_checkable
class ConditionerClass(Protocol):
    """Builds a module with ``prepare(conditions, keep) -> PreparedConditions``."""

    def __call__(
        self,
        config: ConditioningConfig,
        *,
        num_classes: int,
        token_width: int,
        modulation_width: int,
        time_features: int,
        token_use: str,
    ) -> nn.Module:
        """As :class:`pippin.conditioning.conditioner.Conditioner` is built."""
        ...


OURS = "pippin"
_REGISTERED: dict[str, ConditionerClass] = {OURS: Conditioner}


def register_conditioner(name: str, build: ConditionerClass) -> None:
    """Make a conditioner known as ``conditioning.conditioner NAME`` in this process.

    What it builds is a :class:`torch.nn.Module` with a method ``prepare(conditions, keep)`` that
    returns an object whose ``at(t)`` gives an :class:`pippin.types.Embedded`: tokens of
    ``token_width`` (None where ``token_use`` is "none") and a modulation vector of
    ``modulation_width``, time included. What ``keep`` drops must be as if it had not been given.
    Its layers should come from ``pippin.nn.initialise`` (``Linear``, ``Embedding``), which start
    alike in every arm of a study; others must be initialised by the class itself.

    Raises:
        ConfigError: the name is taken by another class.
    """
    if _REGISTERED.setdefault(name, build) is not build:
        raise ConfigError(
            f"a conditioner called {name!r} is registered already; choose another name"
        )


def find_conditioner(name: str) -> ConditionerClass:
    """The class of a name.

    Raises:
        ConfigError: nothing of that name was registered in this process.
    """
    if name not in _REGISTERED:
        raise ConfigError(
            f"conditioning.conditioner {name!r} is not registered; there are: "
            f"{', '.join(_REGISTERED)}. Call register_conditioner({name!r}, Class) before, in the "
            "program that trains, samples or measures"
        )
    return _REGISTERED[name]


def prepare(conditioner: nn.Module, conditions: Conditions, keep: Keep) -> PreparedConditions:
    """``conditioner.prepare``, with its type."""
    prepared: PreparedConditions = conditioner.prepare(conditions, keep)
    return prepared

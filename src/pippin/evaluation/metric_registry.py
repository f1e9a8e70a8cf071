# SPDX-License-Identifier: Apache-2.0
"""Registry of metrics: pippin's, and those that a program declares.

The modules of :mod:`pippin.evaluation.metrics.declared` are imported on first use, so a file there
needs no entry in any table.
"""

from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TypeVar

from pippin.config import ConfigError
from pippin.evaluation.metric import OTHER, Metric, MetricKind, undeclared
from pippin.evaluation.metric_source import functions_of, source_digest
from pippin.evaluation.metrics import declared as metrics
from pippin.plugins import load_plugins, note_module, note_registration, running_module

Kind = TypeVar("Kind", bound=MetricKind)
NEAR = 4
"""Largest number of suggestions for a misspelled name."""

_DECLARED: dict[str, MetricKind] = {}
_SHIPPED: set[str] = set()
"""Names of pippin's own kinds."""
_SOURCES: dict[str, str] = {}
"""Name of a kind of :func:`declare_metric` -> digest of its source."""


def declare_metric(kind: Kind) -> Kind:
    """Register a kind of metrics in this process, and return it.

    Reports then have its words, and studies may declare its metrics. A second declaration of the
    same name, as in a notebook, replaces the first. A study's workers import the module whose
    import calls this function.

    Raises:
        ConfigError: a metric of another kind, or of pippin itself, has one of the names.
    """
    _import_shipped()
    _register(kind)
    functions = functions_of(kind)
    module = running_module()
    note_module(module)  # a declaration of strings alone has no function that names it
    for function in functions:
        note_registration(function)
    _SOURCES[kind.name] = source_digest(module, functions)
    return kind


def ship_metric(kind: Kind) -> Kind:
    """Register one of pippin's own kinds, in :mod:`pippin.evaluation.metrics.declared`."""
    _register(kind)
    _SHIPPED.add(kind.name)
    return kind


def _register(kind: Kind) -> Kind:
    for other in _DECLARED.values():
        if other.name == kind.name and other.name not in _SHIPPED:
            continue
        shared = [metric for metric in kind.examples() if other.match(metric.name)]
        shared += [metric for metric in other.examples() if kind.match(metric.name)]
        if shared:
            raise ConfigError(
                f"metric {kind.name!r}: {shared[0].name!r} is the name of a metric already "
                f"({other.name!r}); choose another name"
            )
    _DECLARED[kind.name] = kind
    _find.cache_clear()
    return kind


def declared_source(kind: MetricKind) -> str:
    """Digest of the source of a declared kind, see :mod:`pippin.evaluation.metric_source`; empty
    for pippin's own."""
    return _SOURCES.get(kind.name, "")


def metric_kinds() -> tuple[MetricKind, ...]:
    """Every declared kind, those of plugins among them.

    Raises:
        ConfigError: a plugin cannot be imported.
    """
    _import_shipped()
    load_plugins()
    return tuple(_DECLARED.values())


def find_metric(name: str) -> Metric:
    """The metric of a name; one of kind :data:`pippin.evaluation.metric.OTHER` if none has it.

    Raises:
        ConfigError: a plugin cannot be imported, and no metric of pippin has the name.
    """
    _import_shipped()
    metric = _find(name)
    if metric.kind is OTHER:
        load_plugins()  # which may declare it
        metric = _find(name)
    return metric


def near_names(name: str) -> list[str]:
    """Declared names that a misspelled one may stand for, the most similar first."""
    known = [metric.name for kind in metric_kinds() for metric in kind.examples()]
    longer = sorted((entry for entry in known if entry.startswith(name)), key=len)
    return (longer or get_close_matches(name, known, n=NEAR, cutoff=0.5))[:NEAR]


@cache
def _find(name: str) -> Metric:
    matches = (kind.match(name) for kind in _DECLARED.values())
    return next(filter(None, matches), undeclared(name))


@cache
def _import_shipped() -> None:
    """Import the declarations of :mod:`pippin.evaluation.metrics.declared`."""
    for module in iter_modules(metrics.__path__):
        import_module(f"{metrics.__name__}.{module.name}")

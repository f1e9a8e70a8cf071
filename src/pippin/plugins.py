# SPDX-License-Identifier: Apache-2.0
"""Import of modules that add denoisers, conditioners, recipes, studies or metrics of their own.

The user names such a module (``--import MODULE``), or an installed package declares it as an entry
point of the group ``pippin.plugins``. A recipe, run or checkpoint names none: opening a downloaded
file never imports code.
"""

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import TypeVar

from pippin.config import ConfigError, suggest_names

T = TypeVar("T")

PACKAGE = "pippin"
"""Name of the package: its own modules need no import by others."""
GROUP = "pippin.plugins"
"""Group of entry points; each names a module whose import registers its classes."""
VARIABLE = "PIPPIN_IMPORT"
"""Environment variable by which worker processes know the imported modules, joined by commas."""


@dataclass(kw_only=True)
class _Loading:
    """Progress of :func:`load_plugins` in this process."""

    loading: bool = False
    """The thread that holds the lock imports: a module may call :func:`load_plugins` itself."""
    loaded: bool = False
    error: Exception | None = None
    """Why a module could not be imported."""


_registering: dict[str, None] = {}
"""Modules of :func:`note_module`, in their order."""
_lock = threading.RLock()
_state = _Loading()


def import_modules(names: Sequence[str]) -> None:
    """Import modules, in this process and in the worker processes that it starts.

    The current folder is searched after Python's path. Worker processes do not import a module
    that this process failed to import.

    Raises:
        ConfigError: no such module.
    """
    recorded = imported_modules()
    _record([*recorded, *names])  # first: a signal during a long import prints the whole command
    for position, name in enumerate(names):
        try:
            _import(name)
        except Exception:
            _record([*recorded, *names[:position]])
            raise


def _record(names: Sequence[str]) -> None:
    if names:
        os.environ[VARIABLE] = ",".join(dict.fromkeys(names))
    else:
        os.environ.pop(VARIABLE, None)


def imported_modules() -> list[str]:
    """Names of the modules that the user told this process, or its parent, to import."""
    return [name for name in os.environ.get(VARIABLE, "").split(",") if name]


def load_plugins() -> None:
    """Import the modules of :data:`VARIABLE` and of installed plugins, once in a process.

    Called when a name is not registered, by evaluations, which measure every declared metric of
    single images, and at the start of a study's worker processes.

    Raises:
        ConfigError: a module cannot be imported; the message names it. Later calls raise the same
            error.
    """
    with _lock:
        if _state.error is not None:
            raise _state.error
        if _state.loading or _state.loaded:
            return
        _state.loading = True
        try:
            import_modules(imported_modules())
            for entry in entry_points(group=GROUP):
                _load(entry)
            _state.loaded = True
        except Exception as error:
            _state.error = error
            raise
        finally:
            _state.loading = False


def note_registration(owner: object) -> None:
    """Record the module of a registered class or function: a study's workers import it too."""
    note_module(str(getattr(owner, "__module__", "")))


def note_module(name: str) -> None:
    """Record a module that registers something: a study's workers import it too."""
    if name.partition(".")[0] not in ("", PACKAGE, "__main__", "__mp_main__"):
        _registering[name] = None


def running_module() -> str:
    """Name of the module whose import, or whose run as a program, reached the caller."""
    frame = sys._getframe(1)
    while frame.f_code.co_name != "<module>" and frame.f_back is not None:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))


@dataclass(frozen=True, kw_only=True)
class WorkerModules:
    """Modules that a process imports because the process that started it has."""

    named: tuple[str, ...] = ()
    """Modules of ``--import``."""
    registering: tuple[str, ...] = ()
    """Modules of registered classes and functions, which a program may have imported itself."""

    @classmethod
    def of_this_process(cls) -> "WorkerModules":
        """The modules that this process has imported so far."""
        return cls(named=tuple(imported_modules()), registering=tuple(_registering))

    def load(self) -> None:
        """Import them, and installed plugins. Registering modules that are not on Python's path,
        such as a notebook's, are skipped.

        Raises:
            ConfigError: a module cannot be imported; the message names it.
        """
        import_modules(self.named)
        for name in filter(_is_found, self.registering):
            import_module(name)
        load_plugins()


def _is_found(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # no such package, or a module without a file
        return False


def find_registered(
    registered: Mapping[str, T], name: str, problem: str, advice: str, *, list_known: bool = False
) -> T:
    """The entry of a name in a table that plugins may add to; they are imported if it is missing.

    Args:
        registered: the table.
        name: the name.
        problem: what is wrong where it is not in the table, for the message.
        advice: what to type then.
        list_known: whether the message lists the whole table; it always suggests near names.

    Raises:
        ConfigError: the name is not in the table, or a plugin cannot be imported.
    """
    if name not in registered:
        load_plugins()
    if name not in registered:
        known = f"; known are: {', '.join(registered)}" if list_known else ""
        raise ConfigError(f"{problem}{known}{suggest_names(name, registered)}; {advice}")
    return registered[name]


def refuse_redefinition(registered: type, new: type, subject: str) -> None:
    """Refuse a class under the name of another class. A class that is defined again, as in a
    notebook, may replace itself.

    Args:
        registered: the class that has the name.
        new: the class to register.
        subject: the name with its kind, for the message.

    Raises:
        ConfigError: they are different classes.
    """
    if (registered.__module__, registered.__qualname__) != (new.__module__, new.__qualname__):
        raise ConfigError(f"{subject} is registered already; choose another name")


def register_advice(function: str) -> str:
    """Advice for a name that is not registered.

    Args:
        function: the function that registers it, such as ``register_denoiser``.
    """
    return (
        f"type --import MODULE for the module that calls {function}; a Python program imports the "
        "module itself"
    )


def _import(name: str) -> None:
    if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(
            f"--import takes the name of a module; got {name!r}: for FOLDER/mine.py, type "
            "PYTHONPATH=FOLDER pippin ... --import mine"
        )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise  # the module exists, and imports another that does not
        raise ConfigError(
            f"--import {name}: no such module in the current folder or on Python's path; for a "
            f"file of another folder, type PYTHONPATH=FOLDER pippin ... --import {name}"
        ) from error


def _load(entry: EntryPoint) -> None:
    try:
        entry.load()
    except Exception as error:  # whatever the code of a package raises
        package = entry.dist.name if entry.dist else entry.name
        raise ConfigError(
            f"the plugin {entry.name} = {entry.value} of the package {package} cannot be imported "
            f"({type(error).__name__}: {error}); update the package or type: pip uninstall "
            f"{package}"
        ) from error

# SPDX-License-Identifier: Apache-2.0
"""Import of modules that register denoisers, conditioners, recipes or studies of their own.

The user names such a module (``--import MODULE``), or an installed package declares it as an entry
point of the group ``pippin.plugins``. A recipe, run or checkpoint names none: opening a downloaded
file never imports code.
"""

import os
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from pippin.config import ConfigError

GROUP = "pippin.plugins"
"""Group of entry points; each names a module whose import registers its classes."""
VARIABLE = "PIPPIN_IMPORT"
"""Environment variable by which worker processes know the imported modules, joined by commas."""

_loaded = threading.Event()


def import_modules(names: Sequence[str]) -> None:
    """Import modules, in this process and in the worker processes that it starts.

    The current folder is searched after Python's path.

    Raises:
        ConfigError: no such module.
    """
    if names:  # recorded first: a signal during a long import prints the whole command
        os.environ[VARIABLE] = ",".join(dict.fromkeys([*imported_modules(), *names]))
    for name in names:
        _import(name)


def imported_modules() -> list[str]:
    """Names of the modules that the user told this process, or its parent, to import."""
    return [name for name in os.environ.get(VARIABLE, "").split(",") if name]


def load_plugins() -> None:
    """Import the modules of :data:`VARIABLE` and of installed plugins, once in a process.

    Called when a name is not registered, so that a process without such names imports nothing.

    Raises:
        ConfigError: a module cannot be imported; the message names it.
    """
    if _loaded.is_set():
        return
    _loaded.set()
    import_modules(imported_modules())
    for entry in entry_points(group=GROUP):
        _load(entry)


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

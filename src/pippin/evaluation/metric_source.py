# SPDX-License-Identifier: Apache-2.0
"""Source code of a declared metric: its modules, and a digest by which unfinished evaluations tell
whether their values are still those of the metric.

The digest covers the source files of the declaring module and of the metric's functions, as they
are when the metric is declared. Any edit of these files changes it, also one of a comment. It does
not cover other modules that the functions import, files that they read, or variables of a
notebook: after a change there, delete ``evaluation/stages.jsonl`` of an interrupted evaluation.
"""

import hashlib
import inspect
import sys
import uuid
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pippin.plugins import PACKAGE

EXECUTED = "<string>"
"""File name of code that ``exec`` compiles; of ``python -c`` too."""


def functions_of(declaration: object) -> tuple[Any, ...]:
    """The functions and callable objects among the fields of a declaration; those of pippin are
    left out."""
    functions = (_unwrapped(value) for value in vars(declaration).values() if callable(value))
    return tuple(function for function in functions if not _is_own(_module_of(function)))


def source_digest(module: str, functions: Iterable[Any]) -> str:
    """Digest of the source of a declaration, 16 hexadecimal digits.

    A declaration without source, such as one of ``exec``, has another digest each time.

    Args:
        module: name of the declaring module.
        functions: see :func:`functions_of`.
    """
    functions = tuple(functions)
    names = sorted({module, *map(_module_of, functions)})
    files = {name: file for name in names if not _is_own(name) and (file := _file(name))}
    parts = [file.read_bytes() for file in files.values()]
    parts += [*_texts(function for function in functions if _module_of(function) not in files)]
    return hashlib.sha256(b"\0".join(sorted(parts))).hexdigest()[:16]


def _unwrapped(function: Any) -> Any:
    while isinstance(function, partial):
        function = function.func
    return function


def _module_of(function: Any) -> str:
    return str(getattr(function, "__module__", ""))


def _is_own(module: str) -> bool:
    return module.partition(".")[0] == PACKAGE


def _file(module: str) -> Path | None:
    """Source file of an imported module; None for a notebook."""
    name = getattr(sys.modules.get(module), "__file__", None)
    return Path(name) if name and Path(name).is_file() else None


def _texts(functions: Iterable[Any]) -> Iterator[bytes]:
    for function in functions:
        code = getattr(function, "__code__", None)
        try:
            if code is not None and code.co_filename == EXECUTED:
                raise OSError  # from Python 3.13 on, inspect finds the text of `python -c` there
            source = inspect.getsource(function)
        except (OSError, TypeError):
            source = uuid.uuid4().hex
        yield source.encode("utf-8", "replace")

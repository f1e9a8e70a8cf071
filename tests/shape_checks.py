# SPDX-License-Identifier: Apache-2.0
"""Run-time checks of signatures under tests.

An int is accepted as a float, as by mypy.
"""

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, ForwardRef, get_args

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, install_import_hook

CHECKED_CALLS = 16
"""Calls of each function that are checked in each test. They reach all blocks of a small model,
whose tensors differ in shape: in tests the up path of a UNet is calls 5 to 8 of its blocks, and
MDTv2's masked pass calls 5 to 9. A loop of thousands would take twice its time."""

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_check_shapes = jaxtyping.jaxtyped
_calls: dict[int, int] = {}
"""Checked calls of each function's code in the current test."""


def check_signatures(package: str) -> None:
    """Check the signatures of all modules of a package that are imported from now on.

    jaxtyping binds the arguments of every call by name, which takes as long as a small function.
    It is left out where no annotation has a shape.
    """
    jaxtyping.jaxtyped = _checked
    install_import_hook(package, f"{__name__}.check")


def begin_test() -> None:
    """Check the next calls of every function again."""
    _calls.clear()


def _checked(decorated: Any = None, *, typechecker: Callable[..., Any]) -> Any:
    """Decorator that the import hook writes over each function and class."""
    if decorated is None:
        return partial(_checked, typechecker=typechecker)
    if dataclasses.is_dataclass(decorated) and inspect.isfunction(vars(decorated).get("__init__")):
        decorated.__init__ = _checked(decorated.__init__, typechecker=typechecker)
        return decorated
    if not inspect.isfunction(decorated):
        return _check_shapes(decorated, typechecker=typechecker)
    return _check_calls(decorated, typechecker) if decorated.__annotations__ else decorated


def _check_calls(function: Callable[..., Any], typechecker: Callable[..., Any]) -> Any:
    """Check the first calls of a function in each test.

    Its checks are built for the first call; those of a name in quotes now, while a class does not
    know its own name: tests give some classes stand-ins for themselves.
    """
    code = id(function.__code__)
    quoted = any(isinstance(hint, str | ForwardRef) for hint in function.__annotations__.values())
    checked = _with_checks(function, typechecker) if quoted else None

    @wraps(function)
    def check_first_calls(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        count = _calls.get(code, 0)
        if count >= CHECKED_CALLS or jaxtyping.config.jaxtyping_disable:
            return function(*args, **kwargs)
        _calls[code] = count + 1
        if checked is None:
            checked = _with_checks(function, typechecker)
        return checked(*args, **kwargs)

    return check_first_calls


def _with_checks(function: Any, typechecker: Callable[..., Any]) -> Callable[..., Any]:
    if any(map(_needs_shapes, function.__annotations__.values())):
        return _check_shapes(function, typechecker=typechecker)
    return check(function)


def _needs_shapes(annotation: Any) -> bool:
    """Whether an annotation has a shape, or a name that jaxtyping may not find later."""
    if isinstance(annotation, str | ForwardRef):
        return True
    if inspect.isclass(annotation) and issubclass(annotation, AbstractArray):
        return True
    return any(map(_needs_shapes, get_args(annotation)))

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

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_check_shapes = jaxtyping.jaxtyped


def check_signatures(package: str) -> None:
    """Check the signatures of all modules of a package that are imported from now on.

    jaxtyping binds the arguments of every call by name, which takes as long as a small function.
    It is left out where no annotation has a shape.
    """
    jaxtyping.jaxtyped = _checked
    install_import_hook(package, f"{__name__}.check")


def _checked(decorated: Any = None, *, typechecker: Callable[..., Any]) -> Any:
    """Decorator that the import hook writes over each function and class."""
    if decorated is None:
        return partial(_checked, typechecker=typechecker)
    if dataclasses.is_dataclass(decorated) and inspect.isfunction(vars(decorated).get("__init__")):
        decorated.__init__ = _checked(decorated.__init__, typechecker=typechecker)
        return decorated
    if not inspect.isfunction(decorated):
        return _check_shapes(decorated, typechecker=typechecker)
    if any(map(_needs_shapes, decorated.__annotations__.values())):
        return _check_shapes(decorated, typechecker=typechecker)
    return _check_types(decorated) if decorated.__annotations__ else decorated


def _check_types(function: Callable[..., Any]) -> Callable[..., Any]:
    checked = check(function)

    @wraps(function)
    def unless_disabled(*args: Any, **kwargs: Any) -> Any:
        call = function if jaxtyping.config.jaxtyping_disable else checked
        return call(*args, **kwargs)

    return unless_disabled


def _needs_shapes(annotation: Any) -> bool:
    """Whether an annotation has a shape, or a name that jaxtyping may not find later."""
    if isinstance(annotation, str | ForwardRef):
        return True
    if inspect.isclass(annotation) and issubclass(annotation, AbstractArray):
        return True
    return any(map(_needs_shapes, get_args(annotation)))

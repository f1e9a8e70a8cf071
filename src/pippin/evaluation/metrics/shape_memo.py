# SPDX-License-Identifier: Apache-2.0
"""Memo of the shapes that operations on the meta device return, and FLOPs by it."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

LIMIT = 20_000
"""Number of results that are kept; some hundred per model and batch size."""

_results: dict[Any, Any] = {}
_not_kept: set[Any] = set()
"""Operations that return or change what they are given."""
_not_composite: set[Any] = set()
"""Operations that do not consist of others."""


class ShapeMemo(TorchDispatchMode):
    """Look up what an operation on the meta device returned for inputs of equal shapes.

    Torch computes the shapes of elementwise operations there by Python, in ten times the time of a
    look-up, and a transformer repeats them in each block. Results are new tensors of the same
    shape, strides and type, so counts of FLOPs and of bytes stay as they are. Tensors of other
    devices, views and operations in place are left to torch.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _not_kept:
            return func(*args, **kwargs)
        try:
            key = (func, _describe(args), *((name, _describe(kwargs[name])) for name in kwargs))
            result = _results.get(key)
        except TypeError:
            return func(*args, **kwargs)
        if result is not None:
            return _rebuild(result)
        output = func(*args, **kwargs)
        if _shares_memory(func, output, (args, kwargs)):
            _not_kept.add(func)
        elif _is_kept(output):
            if len(_results) >= LIMIT:
                _results.clear()
            _results[key] = _describe(output)
        return output


class FlopCount(ShapeMemo):
    """Count FLOPs by the formulas of torch's FlopCounterMode.

    That mode also tells them apart by module, in hooks that take longer than the look-up.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self._formulas = FlopCounterMode(display=False).flop_registry

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        formula = self._formulas.get(func.overloadpacket)
        if formula is None and func not in _not_composite:
            with self:  # inference mode does not decompose composite operations
                output = func.decompose(*args, **(kwargs or {}))
            if output is not NotImplemented:
                return output
            _not_composite.add(func)
        output = super().__torch_dispatch__(func, types, args, kwargs)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=output)
        return output


def _describe(value: Any) -> Any:
    """Key of an input, from which :func:`_rebuild` builds an output.

    Raises:
        TypeError: a tensor of another device.
    """
    if isinstance(value, Tensor):
        if value.device.type != "meta":
            raise TypeError
        return Tensor, value.shape, value.stride(), value.dtype
    if isinstance(value, tuple | list):
        return type(value), *map(_describe, value)
    return type(value), value  # 1, 1.0 and True are equal


def _rebuild(description: Any) -> Any:
    kind, *rest = description
    if kind is Tensor:
        shape, strides, dtype = rest
        return torch.empty_strided(shape, strides, dtype=dtype, device="meta")
    return kind(map(_rebuild, rest)) if kind in (tuple, list) else rest[0]


def _is_kept(output: Any) -> bool:
    """Whether an output consists of tensors of the meta device."""
    if isinstance(output, tuple | list):
        return type(output) in (tuple, list) and all(map(_is_kept, output))
    return output is None or (isinstance(output, Tensor) and output.device.type == "meta")


def _shares_memory(func: Any, output: Any, given: Any) -> bool:
    """Whether an output is an input or a view of one; schemas do not declare every alias."""
    schema = func._schema
    if any(x.alias_info is not None for x in (*schema.arguments, *schema.returns)):
        return True
    return bool(_storages(output) & _storages(given))


def _storages(value: Any) -> set[int]:
    if isinstance(value, Tensor):
        return {value.untyped_storage()._cdata}
    members = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(members, tuple | list):
        return set()
    return {storage for member in members for storage in _storages(member)}

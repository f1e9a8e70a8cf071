# SPDX-License-Identifier: Apache-2.0
"""Context of forward-mode differentiation for whole networks, at the cost of two passes."""

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.forward_ad import dual_level, make_dual, unpack_dual
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


@cache
def _load_rules() -> None:
    """Let torch load its rules of forward mode, once. It does so with the first dual tensor, by
    its own deprecated ``torch.jit.script``, of which a user is not to be warned."""
    with warnings.catch_warnings(), dual_level():
        warnings.filterwarnings("ignore", "`torch.jit.script`", FutureWarning)
        make_dual(torch.zeros(1), torch.zeros(1))


@contextmanager
def forward_derivatives() -> Iterator[None]:
    """Context in which dual tensors of :func:`torch.autograd.forward_ad.make_dual` go through a
    network.

    Attention takes its plain operations, since fused kernels have no forward-mode derivative, and
    compiled blocks run without their compiled code.
    """
    _load_rules()
    with _uncompiled(), sdpa_kernel(SDPBackend.MATH), dual_level(), _ConstantWeights():
        yield


class _ConstantWeights(TorchFunctionMode):
    """Linear layers and convolutions whose weights have no tangent, in two products.

    Torch 2.14 writes a tangent of zeros for such weights and multiplies by it, a third product.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, on primal and tangent where its weights are constant."""
        named = dict(kwargs or {})
        if func not in (F.linear, F.conv2d) or len(args) < 2:
            return func(*args, **named)
        (primal, tangent), weight = unpack_dual(args[0]), unpack_dual(args[1])
        if tangent is None or weight.tangent is not None:
            return func(*args, **named)
        without_bias = (tangent, args[1], None, *args[3:])
        slope = func(*without_bias, **{k: v for k, v in named.items() if k != "bias"})
        return make_dual(func(primal, *args[1:], **named), slope)


def _uncompiled() -> AbstractContextManager[None]:
    """Context in which compiled blocks run their Python code. Nothing is compiled where the
    compiler was never imported, which takes a second."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance

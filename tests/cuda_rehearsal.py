# SPDX-License-Identifier: Apache-2.0
"""CUDA without a GPU: tensors on "cuda" are fake, with shapes and types but no values.

A rehearsal runs the program that a GPU would run. It fails, as a GPU would, where a CPU tensor
meets a CUDA one, and it counts at every place how often the CPU waits for the GPU: a value that is
read, a copy to the CPU, a copy of pageable memory. Copies of results give made-up numbers, and
values read are 1. Gradients are not computed, since torch's engine needs a real device: each
parameter gets a fake one.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.cuda.amp.common
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_map

import pippin
from pippin import rng

SOURCE = Path(pippin.__file__).parent
WAITS = {
    "data.moments:encode_images": "latents for the cache, each batch",
    "distributed.sharded_tensors:gather_full_tensors": "sharded weights for a file, one by one",
    "distributed.world:sync_step_status": "loss and gradient norm, each step",
    "encoders.autoencoder:Autoencoder.fingerprint": "weights for their digest, once",
    "encoders.text:_SingleEncoder.encode": "features of captions, each batch",
    "evaluation.features.efflite0:PerceptualDistance._distance": "distances, each batch of pairs",
    "evaluation.features.extraction:outputs": "features, each batch",
    "evaluation.metrics.denoising:denoising_errors": "errors, at the end",
    "sampling.sampler:Sampler._images": "images, each batch",
    "sampling.sampler:_check_finite": "whether latents are finite, each batch, after its images",
    "system.tensors:save_tensors": "weights for a file",
    "system.tensors:tensors_digest": "weights for their digest",
    "training.autoencoder.state:write_state": "weights for a file",
    "training.autoencoder.trainer:AutoencoderTrainer.step": "losses and gradient norm, each step",
}
"""Places that may wait for the GPU, and for what."""

READS = {"_local_scalar_dense": 1.0, "is_nonzero": True, "equal": True}
"""Operators that read a value of a tensor, and the value that a rehearsal gives."""
MAY_MIX = {"_to_copy", "copy_", "index", "index_put_"}
"""Operators that take tensors of both devices."""
KEEPS_VALUES = {"_to_copy", "detach", "alias"}
"""Operators whose result has the values of their argument."""


class CudaRehearsal(FakeTensorMode):
    """Mode in which tensors on "cuda" are fake and all others real."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.waits: Counter[str] = Counter()
        """Places in pippin that wait for the GPU, as ``module:function``, and how often."""
        self.pageable: Counter[str] = Counter()
        """Places that copy a CPU tensor to the GPU without pinning its memory first, for which the
        CPU waits until all is copied."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = _leaves((*args, *kwargs.values()))
        fake = [x for x in leaves if isinstance(x, FakeTensor)]
        if any(isinstance(x, DTensor) for x in leaves):  # which calls it for its shards
            return func(*args, **kwargs)
        if not fake and not any(isinstance(x, torch.device) and x.type == "cuda" for x in leaves):
            return func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if fake and name in READS:
            self._wait()
            return _value(fake[0], READS[name])
        real = [x for x in leaves if isinstance(x, torch.Tensor) and not isinstance(x, FakeTensor)]
        if fake and name not in MAY_MIX and any(x.dim() > 0 for x in real):
            raise RuntimeError(f"{name}: a CPU tensor of shape {tuple(real[0].shape)} meets CUDA")
        if name == "copy_" and not isinstance(args[0], FakeTensor):  # from CUDA to the CPU
            self._wait()
            return args[0].copy_(_made_up(args[0].shape, args[0].dtype))
        if name == "_to_copy" and fake and _is_cpu(kwargs.get("device")):
            self._wait()
            return _copied(fake[0], kwargs.get("dtype") or fake[0].dtype)
        if name == "_to_copy" and real and not hasattr(real[0], "pinned"):
            self.pageable[_place()] += 1
        for x in fake:
            x.constant = None  # torch would compute with small constants on the missing device
        if real:
            args, kwargs = self._faked(args, kwargs, real)
        out = super().__torch_dispatch__(func, types, args, kwargs)
        for x in _leaves((out,)):
            if isinstance(x, FakeTensor):
                x.constant = None
        if name in KEEPS_VALUES and isinstance(out, FakeTensor):
            out.arrived = real[0].detach().clone() if real else getattr(fake[0], "arrived", None)
        return out

    def _faked(self, args: Any, kwargs: Any, real: list[torch.Tensor]) -> tuple[Any, Any]:
        """Arguments with fakes of the real tensors."""
        return tree_map(
            lambda x: self.from_tensor(x) if any(x is one for one in real) else x, (args, kwargs)
        )

    def list_of(self, x: FakeTensor) -> Any:
        """``x.tolist()``, which copies all values at once."""
        self._wait()
        return torch.ones(x.shape, dtype=x.dtype).tolist()

    def _wait(self) -> None:
        self.waits[_place()] += 1


def _leaves(values: Iterable[Any]) -> list[Any]:
    """Arguments of an operator, and what lists of them hold; pytree would take longer than the
    operator."""
    leaves: list[Any] = []
    for x in values:
        leaves += _leaves(x) if isinstance(x, list | tuple) else (x,)
    return leaves


def _copied(x: FakeTensor, dtype: torch.dtype) -> torch.Tensor:
    """Values that arrive on the CPU: those that came from there, otherwise made-up ones."""
    arrived = getattr(x, "arrived", None)
    if arrived is None or arrived.shape != x.shape:
        return _made_up(x.shape, dtype)
    return arrived.to(dtype, copy=True)


def _made_up(shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """Different numbers from 0 to 1, rounded to the type."""
    return torch.linspace(0, 1, shape.numel(), dtype=torch.float64).reshape(shape).to(dtype)


def _is_cpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cpu"


def _value(x: FakeTensor, value: float) -> Any:
    if x.dtype == torch.bool:
        return True
    return value if x.dtype.is_floating_point else int(value)


def _place() -> str:
    """The innermost function of pippin that is running."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(SOURCE):
            module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
            function = re.sub(r"\.<locals>\.<\w+>$", "", frame.f_code.co_qualname)
            return f"{module}:{function}"
        frame = frame.f_back
    return "elsewhere"


def fake_backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
    """Give every leaf of a loss a gradient without a value."""
    seen, nodes = set(), [tensors.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            leaf.grad = torch.empty_like(leaf)
        nodes += [following for following, _ in node.next_functions]


@contextmanager
def rehearsal() -> Iterator[CudaRehearsal]:
    """Context in which ``train.device cuda`` works."""
    # Autograd counts devices once. Fake tensors add one for good, and with its thread no later
    # test could fork.
    torch.ones((), requires_grad=True).backward()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *args, **kwargs: True)
        patch.setattr(torch.cuda, "get_device_name", lambda *args: "rehearsed")
        patch.setattr(torch.cuda, "current_stream", lambda *args: _IdleStream())
        patch.setattr(torch.Tensor, "pin_memory", _pinned)
        patch.setattr(torch.Tensor, "backward", fake_backward)
        patch.setattr(torch, "load", _load_values)
        patch.setattr(rng, "generator", lambda *key, device="cpu": _generator(*key))
        mode = CudaRehearsal()
        patch.setattr(FakeTensor, "tolist", lambda x: mode.list_of(x))
        with mode:
            yield mode


def _pinned(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    copy = x.detach()
    copy.pinned = True
    return copy


_generator = rng.generator  # that of a GPU needs one
_load = torch.load


def _load_values(*args: Any, **kwargs: Any) -> Any:
    """``torch.load``, which reads shapes alone while tensors are fake."""
    with unset_fake_temporarily():
        return _load(*args, **kwargs)


class _IdleStream:
    def query(self) -> bool:
        return True

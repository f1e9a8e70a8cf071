# SPDX-License-Identifier: Apache-2.0
"""Step of AdamW over the weights of a DiT: one fused kernel, or loops over lists of tensors."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from gpu.models import new_model, recipe_of
from gpu.section import Context, Settings, Task

from pippin.bench.record import Spread
from pippin.bench.timer import synchronise

BYTES = 28
"""Bytes that a step must move for each number: weight, gradient and two averages are read, all but
the gradient are written, 4 bytes each."""


@dataclass(frozen=True, kw_only=True)
class OptimizerRow:
    """Steps of one implementation."""

    implementation: str
    milliseconds: Spread
    gigabytes_per_second: float
    """Bytes that a step must move, over its time."""
    parameters: int


def tasks(context: Context) -> Iterator[Task]:
    """Fused, as pippin trains, and foreach, torch's default on a GPU."""
    for name in ("fused", "foreach"):
        yield Task(name=name, run=partial(_rows, name, context.settings))


def _rows(name: str, settings: Settings) -> Iterator[OptimizerRow]:
    parameters = list(new_model(recipe_of("dit", settings.size), settings.device).parameters())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer = torch.optim.AdamW(
        parameters, lr=1e-6, fused=name == "fused", foreach=name == "foreach"
    )
    count, rounds = sum(p.numel() for p in parameters), 10 if settings.is_xl else 3
    seconds = [_seconds(optimizer, settings.device) for _ in range(rounds + 2)][2:]
    spread = Spread.over([1e3 * s for s in seconds])
    yield OptimizerRow(
        implementation=name,
        milliseconds=spread,
        gigabytes_per_second=BYTES * count / 1e6 / spread.median,
        parameters=count,
    )


def _seconds(optimizer: torch.optim.Optimizer, device: torch.device) -> float:
    synchronise(device)
    start = time.perf_counter()
    optimizer.step()
    synchronise(device)
    return time.perf_counter() - start

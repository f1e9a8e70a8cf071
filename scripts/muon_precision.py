# SPDX-License-Identifier: Apache-2.0
"""Error and time of Muon's iteration on gradients of a small model, by precision.

    OMP_NUM_THREADS=1 python scripts/muon_precision.py

Trains the recipe of the studies at scale cpu for some steps on the embedded images, takes the
gradients of its weight matrices, and compares methods of orthogonalising them with float64:
relative error of a matrix (median, largest), and processor time of all. Takes about a minute.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from pippin.bench.measure import new_batches
from pippin.runs.components import Components
from pippin.studies.shipped.scales import class_base
from pippin.training.muon import STACK_NUMBERS, Muon, orthogonalise, orthogonalise_stack
from pippin.training.train import build_trainer

STEPS = 60
"""Steps before the gradients are taken."""
TURNS = 5
Method = Callable[[list[Tensor]], list[Tensor]]
"""Matrices -> their orthogonal factors."""


def main() -> None:
    """Print a table."""
    matrices = gradients()
    exact = [orthogonalise(matrix.double()) for matrix in matrices]
    print(f"{len(matrices)} matrices; error: median, largest; ms of processor time")
    for name, method in METHODS.items():
        errors = [
            float((step.double() - true).norm() / true.norm())
            for step, true in zip(method(matrices), exact, strict=True)
        ]
        seconds = []
        for _ in range(TURNS):
            start = time.process_time()
            method(matrices)
            seconds.append(time.process_time() - start)
        print(
            f"{name:22} {statistics.median(errors):8.2%} {max(errors):8.2%} "
            f"{1000 * statistics.median(seconds):8.1f}"
        )


def gradients() -> list[Tensor]:
    """Gradients of the matrices that Muon trains, at one batch."""
    recipe = class_base("cpu")
    components = Components(
        replace(recipe, train=replace(recipe.train, device="cpu")), Console(stderr=True)
    )
    trainer, batches = build_trainer(components, Path("unused")), new_batches(components)
    trainer.model.train()
    for _ in range(STEPS):
        trainer.step(next(batches))
    batch = next(batches)
    trainer.backward(batch, trainer.draw(trainer.step_count, tuple(batch.latents.shape)))
    (muon,) = (one for one in trainer.optimizers if isinstance(one, Muon))
    weights = [weight for group in muon.param_groups for weight in group["params"]]
    return [weight.grad.flatten(1) for weight in weights]


def single(dtype: torch.dtype, *, gram: bool = False) -> Method:
    """Each matrix by itself."""
    return lambda matrices: [orthogonalise(matrix, dtype, gram=gram) for matrix in matrices]


def stacked(*, gram: bool = False) -> Method:
    """Matrices of one shape at once, in bf16."""

    def method(matrices: list[Tensor]) -> list[Tensor]:
        places = defaultdict[torch.Size, list[int]](list)
        for place, matrix in enumerate(matrices):
            places[matrix.shape].append(place)
        results: dict[int, Tensor] = {}
        for shape, group in places.items():
            length = max(1, STACK_NUMBERS // shape.numel())
            for start in range(0, len(group), length):
                chosen = group[start : start + length]
                stack = [matrices[place] for place in chosen]
                steps = orthogonalise_stack(stack, torch.bfloat16, gram=gram)
                results |= dict(zip(chosen, steps, strict=True))
        return [results[place] for place in range(len(matrices))]

    return method


METHODS: dict[str, Method] = {
    "fp32": single(torch.float32),
    "fp32, Gram": single(torch.float32, gram=True),
    "bf16, published order": single(torch.bfloat16),
    "bf16": stacked(),
    "bf16, Gram": stacked(gram=True),
}


if __name__ == "__main__":
    main()

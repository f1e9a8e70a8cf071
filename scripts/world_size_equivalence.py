# SPDX-License-Identifier: Apache-2.0
"""Numerical equivalence across world sizes and micro-batches, as in
docs/reference/distributed.md.

    python scripts/world_size_equivalence.py
    python scripts/world_size_equivalence.py --denoiser unet --steps 100

A small model without zero weights trains on synthetic latents in 1, 2 and 4 processes (gloo, one
thread each), with the local batch at once or in two micro-batches, under DDP and FSDP2. Compared
with one process that computes the whole batch at once:

- gradients of the first step in fp32: largest difference over the largest gradient;
- loss of every step, in float64 and in fp32: largest relative difference;
- saved by two processes in the middle and resumed by one, two and four, in fp32: the following
  losses, and the final first parameter over its largest weight.
"""

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from one_batch import SMALL, first_gradients, trace
from processes import run_ranks
from small_trainer import CONFIG

from pippin.distributed.world import World

LAYOUTS = [
    (size, accumulation, parallel)
    for size in (1, 2, 4)
    for accumulation in (1, 2)
    for parallel in ("ddp", "fsdp")
    if (size > 1 or parallel == "ddp") and (size, accumulation) != (1, 1)
]
NAMES = {"ddp": "DDP", "fsdp": "FSDP2"}
Tensors = dict[str, Tensor]
Work = Callable[[World, Path], Tensors]


class Differences:
    """Differences from a single process.

    Args:
        denoiser: name of a small denoiser.
        steps: steps of a trace.
        folder: folder for output.
    """

    def __init__(self, denoiser: str, steps: int, folder: Path) -> None:
        self.denoiser, self.steps, self.folder = SMALL[denoiser], steps, folder
        self._number = 0
        self.reference = {
            "gradients": self.results(1, self.gradients()),
            "float64": self.results(1, self.losses(torch.float64)),
            "fp32": self.results(1, self.losses(torch.float32)),
        }

    def gradients(self, **settings: Any) -> Work:
        """Gradients of the first step."""
        return lambda world, at: first_gradients(world, at, self.denoiser, **settings)

    def losses(self, dtype: torch.dtype, **settings: Any) -> Work:
        """Losses of a trace."""
        given = {"denoiser": self.denoiser, "steps": self.steps, "dtype": dtype, "awake": True}
        return lambda world, at: trace(world, at, **given, **settings)

    def results(self, size: int, work: Work) -> list[Tensors]:
        """Results of every rank."""
        self._number += 1
        return run_ranks(size, work, self.folder / str(self._number))

    def gradient_difference(self, size: int, **settings: Any) -> float:
        """Largest difference of any rank over the largest gradient."""
        reference = self.reference["gradients"][0]
        largest = max(float(grad.abs().max()) for grad in reference.values())
        return max(
            float((rank[name] - grad).abs().max()) / largest
            for rank in self.results(size, self.gradients(**settings))
            for name, grad in reference.items()
        )

    def loss_difference(self, size: int, dtype: torch.dtype, **settings: Any) -> float:
        """Largest relative difference of any rank and step."""
        reference = self.reference["float64" if dtype == torch.float64 else "fp32"][0]["losses"]
        ranks = self.results(size, self.losses(dtype, **settings))
        return max(relative(rank["losses"], reference) for rank in ranks)

    def resumed_difference(self, size: int, parallel: str) -> tuple[float, float]:
        """Differences of losses and final weights, saved by two ranks and resumed by ``size``."""
        half = self.steps // 2
        settings = {"parallel": parallel, "checkpoint_every": half * CONFIG.batch_size}
        first = self.folder / f"saved-{size}-{parallel}"
        run_ranks(2, self.losses(torch.float32, **settings), first)
        start = first / "run" / "checkpoints" / str(half * CONFIG.batch_size)
        reference = self.reference["fp32"][0]
        ranks = self.results(size, self.losses(torch.float32, start=start, **settings))
        weight = max(
            float(
                (rank["weight"] - reference["weight"]).abs().max()
                / reference["weight"].abs().max()
            )
            for rank in ranks
        )
        return max(relative(rank["losses"], reference["losses"][half:]) for rank in ranks), weight


def relative(values: Tensor, reference: Tensor) -> float:
    """Largest relative difference."""
    assert values.shape == reference.shape
    return float(((values - reference) / reference).abs().max())


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--denoiser", choices=SMALL, default="mmdit")
    parser.add_argument("--steps", type=int, default=32, help="steps of a trace")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)  # no in-place changes
    with TemporaryDirectory() as folder:
        differences = Differences(options.denoiser, options.steps, Path(folder))
        losses = differences.reference["float64"][0]["losses"]
        print(f"the loss goes from {losses[0]:.4f} to {losses[-1]:.4f}\n")
        print("| processes | micro-batches | | first gradients, fp32 | losses, float64 | fp32 |")
        print("| --- | --- | --- | --- | --- | --- |")
        for size, accumulation, parallel in LAYOUTS:
            micro = CONFIG.batch_size // size // accumulation if accumulation > 1 else None
            settings = {"micro_batch_size": micro, "parallel": parallel}
            numbers = (
                differences.gradient_difference(size, **settings),
                differences.loss_difference(size, torch.float64, **settings),
                differences.loss_difference(size, torch.float32, **settings),
            )
            name = NAMES[parallel] if size > 1 else ""
            shown = " | ".join(f"{x:.1e}" for x in numbers)
            print(f"| {size} | {accumulation} | {name} | {shown} |", flush=True)
        print("\n| saved by | resumed by | | losses, fp32 | last weights |")
        print("| --- | --- | --- | --- | --- |")
        for size in (1, 2, 4):
            for parallel in ("ddp", "fsdp"):
                losses, weight = differences.resumed_difference(size, parallel)
                name = NAMES[parallel]
                print(f"| 2 | {size} | {name} | {losses:.1e} | {weight:.1e} |", flush=True)


if __name__ == "__main__":
    main()

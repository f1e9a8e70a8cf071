# SPDX-License-Identifier: Apache-2.0
"""How far numbers of processes and micro-batches are from one process: the tables of
docs/reference/distributed.md.

    python scripts/same_numbers.py
    python scripts/same_numbers.py --denoiser unet --steps 100

A small model, none of its weights zero, trains on made-up latents in 1, 2 and 4 processes (gloo,
one thread each), with its share of the batch at once or in two micro-batches, under DDP and FSDP2.
Against one process that computes the whole batch at once:

- the first step's gradients in fp32: the largest difference over the largest gradient;
- the loss of every step, in float64 and in fp32: the largest relative difference;
- saved by two processes in the middle and resumed by one, two and four, in fp32: the losses that
  follow, and the last weights of the first parameter over its largest one.
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
from processes import in_processes
from small_trainer import CONFIG

from pippin.training.world import World

WAYS = [
    (size, accumulation, parallel)
    for size in (1, 2, 4)
    for accumulation in (1, 2)
    for parallel in ("ddp", "fsdp")
    if (size > 1 or parallel == "ddp") and (size, accumulation) != (1, 1)
]
NAMES = {"ddp": "DDP", "fsdp": "FSDP2"}
Found = dict[str, Tensor]
Work = Callable[[World, Path], Found]


class Measured:
    """Differences to one process.

    Args:
        denoiser: which of the small ones.
        steps: of a trace.
        folder: for what is written.
    """

    def __init__(self, denoiser: str, steps: int, folder: Path) -> None:
        self.denoiser, self.steps, self.folder = SMALL[denoiser], steps, folder
        self._number = 0
        self.alone = {
            "gradients": self.worst(1, self.gradients()),
            "float64": self.worst(1, self.losses(torch.float64)),
            "fp32": self.worst(1, self.losses(torch.float32)),
        }

    def gradients(self, **settings: Any) -> Work:
        """Of the first step."""
        return lambda world, at: first_gradients(world, at, self.denoiser, **settings)

    def losses(self, dtype: torch.dtype, **settings: Any) -> Work:
        """Of a trace."""
        given = {"denoiser": self.denoiser, "steps": self.steps, "dtype": dtype, "awake": True}
        return lambda world, at: trace(world, at, **given, **settings)

    def worst(self, size: int, work: Work) -> list[Found]:
        """What every process found."""
        self._number += 1
        return in_processes(size, work, self.folder / str(self._number))

    def of_gradients(self, size: int, **settings: Any) -> float:
        """The largest difference of any process, over the largest gradient."""
        alone = self.alone["gradients"][0]
        largest = max(float(grad.abs().max()) for grad in alone.values())
        return max(
            float((rank[name] - grad).abs().max()) / largest
            for rank in self.worst(size, self.gradients(**settings))
            for name, grad in alone.items()
        )

    def of_losses(self, size: int, dtype: torch.dtype, **settings: Any) -> float:
        """The largest relative difference of any process and step."""
        alone = self.alone["float64" if dtype == torch.float64 else "fp32"][0]["losses"]
        ranks = self.worst(size, self.losses(dtype, **settings))
        return max(relative(rank["losses"], alone) for rank in ranks)

    def of_resumed(self, size: int, parallel: str) -> tuple[float, float]:
        """Saved by two processes in the middle, resumed by ``size``: losses, last weights."""
        half = self.steps // 2
        settings = {"parallel": parallel, "checkpoint_every": half * CONFIG.batch_size}
        first = self.folder / f"saved-{size}-{parallel}"
        in_processes(2, self.losses(torch.float32, **settings), first)
        start = first / "run" / "checkpoints" / str(half * CONFIG.batch_size)
        alone = self.alone["fp32"][0]
        ranks = self.worst(size, self.losses(torch.float32, start=start, **settings))
        weight = max(
            float((rank["weight"] - alone["weight"]).abs().max() / alone["weight"].abs().max())
            for rank in ranks
        )
        return max(relative(rank["losses"], alone["losses"][half:]) for rank in ranks), weight


def relative(found: Tensor, wanted: Tensor) -> float:
    """The largest relative difference."""
    assert found.shape == wanted.shape
    return float(((found - wanted) / wanted).abs().max())


def main() -> None:
    """Measure, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--denoiser", choices=SMALL, default="mmdit")
    parser.add_argument("--steps", type=int, default=32, help="of a trace")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)  # nothing is in place
    with TemporaryDirectory() as place:
        measured = Measured(options.denoiser, options.steps, Path(place))
        losses = measured.alone["float64"][0]["losses"]
        print(f"the loss goes from {losses[0]:.4f} to {losses[-1]:.4f}\n")
        print("| processes | micro-batches | | first gradients, fp32 | losses, float64 | fp32 |")
        print("| --- | --- | --- | --- | --- | --- |")
        for size, accumulation, parallel in WAYS:
            micro = CONFIG.batch_size // size // accumulation if accumulation > 1 else None
            settings = {"micro_batch_size": micro, "parallel": parallel}
            numbers = (
                measured.of_gradients(size, **settings),
                measured.of_losses(size, torch.float64, **settings),
                measured.of_losses(size, torch.float32, **settings),
            )
            name = NAMES[parallel] if size > 1 else ""
            shown = " | ".join(f"{x:.1e}" for x in numbers)
            print(f"| {size} | {accumulation} | {name} | {shown} |", flush=True)
        print("\n| saved by | resumed by | | losses, fp32 | last weights |")
        print("| --- | --- | --- | --- | --- |")
        for size in (1, 2, 4):
            for parallel in ("ddp", "fsdp"):
                losses, weight = measured.of_resumed(size, parallel)
                name = NAMES[parallel]
                print(f"| 2 | {size} | {name} | {losses:.1e} | {weight:.1e} |", flush=True)


if __name__ == "__main__":
    main()

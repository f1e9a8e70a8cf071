# SPDX-License-Identifier: Apache-2.0
"""What several processes change: largest differences from the run of one.

    python scripts/same_numbers.py

Trains a small mmDiT on made-up latents in (1, 2, 4 processes) x (1, 2 micro-batches) x (DDP,
FSDP2) and prints a table in Markdown. Gradients: the largest difference in any number of the first
step's, over the largest gradient, in fp32. Losses: the largest relative difference in any of 20
steps, with all sums in float64 and in fp32. Then runs that two processes save half-way and one or
four go on with: the largest difference in any weight at the end, over the largest weight.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from pippin import rng
from pippin.conditioning.config import ConditioningConfig
from pippin.control import Control, Corner, Size
from pippin.denoisers.config import mmdit
from pippin.diffusion.config import DiffusionConfig
from pippin.model import build_model
from pippin.objective import Objective
from pippin.system.sharded import whole
from pippin.training.config import TrainConfig
from pippin.training.trainer import Trainer
from pippin.training.world import World
from pippin.types import Batch, Conditions, stack_controls

STEPS, BATCH, SHAPE = 20, 8, (4, 8, 8)
TRAIN = TrainConfig(
    images=STEPS * BATCH,
    batch_size=BATCH,
    learning_rate=1e-3,
    precision="fp32",
    checkpoint_every=STEPS * BATCH // 2,
    device="cpu",
)
Work = Callable[[World, Path], dict[str, torch.Tensor]]


def main() -> int:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        alone = measured(1, {}, place / "alone")
        print("| processes | micro-batches | parallel | gradients | loss, float64 | loss, fp32 |")
        print("| --- | --- | --- | --- | --- | --- |")
        for size, micro, parallel in product((1, 2, 4), (1, 2), ("ddp", "fsdp")):
            if size == 1 and parallel == "fsdp":
                continue  # one process shares nothing
            settings = {"micro_batch_size": BATCH // size // micro, "parallel": parallel}
            found = measured(size, settings, place / f"{size}-{micro}-{parallel}")
            cells = [f"{apart(alone[name], found[name], name):.1e}" for name in alone]
            shown = "-" if size == 1 else parallel
            print(f"| {size} | {micro} | {shown} | {' | '.join(cells)} |")
        resumed(place)
    return 0


def measured(size: int, settings: dict[str, Any], folder: Path) -> dict[str, torch.Tensor]:
    """First gradients, and the losses of all steps in both number types."""
    jobs: dict[str, Work] = {
        "gradients": lambda world, at: {"x": first_gradients(world, at, settings)},
        "float64": lambda world, at: {"x": losses(world, at, settings, torch.float64)},
        "fp32": lambda world, at: {"x": losses(world, at, settings, torch.float32)},
    }
    return {name: in_processes(size, job, folder / name)["x"] for name, job in jobs.items()}


def apart(alone: torch.Tensor, found: torch.Tensor, name: str) -> float:
    """Over the largest of all gradients, or of each loss its own."""
    difference = (found - alone).abs()
    scale = alone.abs().max() if name == "gradients" else alone.abs()
    return float((difference / scale).max())


def first_gradients(world: World, folder: Path, settings: dict[str, Any]) -> torch.Tensor:
    """Of every weight of a model that has no zeros, where all have gradients."""
    trainer = make_trainer(world, folder, settings, awake=True)
    trainer._draw(0, (BATCH, *SHAPE))
    assert trainer._drawn is not None
    own = world.part(BATCH)
    trainer._backward(next(batches(world)), trainer._drawn[2].rows(own))
    return torch.cat([whole(p.grad).flatten() for p in trainer.model.parameters()])


def losses(
    world: World, folder: Path, settings: dict[str, Any], dtype: torch.dtype
) -> torch.Tensor:
    """Of every step."""
    trainer = make_trainer(world, folder, settings, dtype=dtype)
    found: list[float] = []
    if dtype == torch.float64:
        doubled(trainer)
    trainer.train(batches(world), [lambda _, report: found.append(report.loss)])
    return torch.tensor(found, dtype=torch.float64)


def doubled(trainer: Trainer) -> None:
    """Let nothing be rounded to fp32 on the way; this process does nothing else afterwards."""
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    for module in trainer.model.modules():
        module.register_forward_pre_hook(
            lambda _, inputs: tuple(
                x.double() if isinstance(x, torch.Tensor) and x.dtype == torch.float32 else x
                for x in inputs
            )
        )
    trainer.ema.weights = {name: x.double() for name, x in trainer.ema.weights.items()}


def resumed(place: Path) -> None:
    """Saved by two half-way, and gone on with by one and four."""
    print("\n| saved by 2 under | resumed by | under | weights |\n| --- | --- | --- | --- |")
    end = in_processes(1, lambda world, at: to_the_end(world, at, {}, None), place / "whole")["x"]
    for saved in ("ddp", "fsdp"):
        first = place / f"saved-{saved}"
        half = {"images": TRAIN.images // 2, "parallel": saved}
        in_processes(
            2, lambda w, at, h=half: to_the_end(w, at.parent / "run", h, None), first / "x"
        )
        checkpoint = first / "run/checkpoints" / str(TRAIN.images // 2)
        for size, parallel in ((1, "ddp"), (4, "ddp"), (4, "fsdp")):
            found = in_processes(
                size,
                lambda w, at, p=parallel, c=checkpoint: to_the_end(w, at, {"parallel": p}, c),
                first / f"{size}-{parallel}",
            )["x"]
            difference = float((found - end).abs().max() / end.abs().max())
            shown = "-" if size == 1 else parallel
            print(f"| {saved} | {size} | {shown} | {difference:.1e} |")


def to_the_end(
    world: World, folder: Path, settings: dict[str, Any], start: Path | None
) -> dict[str, torch.Tensor]:
    """Every weight after the last step."""
    trainer = make_trainer(world, folder, settings)
    if start is not None:
        trainer.restore(start)
    trainer.train(batches(world, trainer.step_count), ())
    return {"x": torch.cat([whole(p.detach()).flatten() for p in trainer.model.parameters()])}


def make_trainer(
    world: World,
    folder: Path,
    settings: dict[str, Any],
    *,
    dtype: torch.dtype = torch.float32,
    awake: bool = False,
) -> Trainer:
    """At image 0."""
    conditioning = ConditioningConfig()
    denoiser = replace(mmdit("tiny"), depth=2, width=16, num_heads=2)
    model = build_model(conditioning, denoiser, num_classes=3, latent_channels=4, seed=0)
    model = model.to(dtype)
    if awake:
        with torch.no_grad():
            for number, weight in enumerate(model.parameters()):
                weight += 0.05 * rng.normal(tuple(weight.shape), "init", number)
    train = replace(TRAIN, **settings)
    objective = Objective(DiffusionConfig())
    return Trainer(model, objective, conditioning, train, seed=0, folder=folder, world=world)


def batches(world: World, step: int = 0) -> Iterator[Batch]:
    """This process's rows of made-up batches; step k's depends on k only."""
    whole_picture = Control(
        original_size=Size(64, 64), crop_corner=Corner(0, 0), crop_size=Size(64, 64), flip=False
    )
    while True:
        index = rng.permutation(100, "order", 0, step)[:BATCH]
        control = stack_controls([whole_picture] * BATCH)
        latents = rng.normal((BATCH, *SHAPE), "posterior", 0, step)
        conditions = Conditions(label=index % 3, control=control)
        batch = Batch(latents=latents, conditions=conditions, index=index)
        yield batch.rows(world.part(BATCH))
        step += 1


def in_processes(size: int, work: Work, folder: Path) -> dict[str, torch.Tensor]:
    """What the first of so many forked processes returns."""
    folder.mkdir(parents=True)
    mp.start_processes(enter, (size, work, folder), nprocs=size, start_method="fork")
    return torch.load(folder / "result", weights_only=True)


def enter(rank: int, size: int, work: Work, folder: Path) -> None:
    """One process of a gloo group."""
    torch.set_num_threads(1)
    meeting = f"file://{folder.resolve()}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    result = work(World(rank=rank, size=size), folder)
    if rank == 0:
        torch.save(result, folder / "result")
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Measured time, memory and disk of a finished training, beside its plan."""

from pathlib import Path

import torch

from pippin.bench.timer import peak_memory
from pippin.preflight.resources import caches_of, folder_bytes
from pippin.preflight.start import Start
from pippin.runs.checkpoint_folders import list_checkpoints
from pippin.runs.plan_met import PLAN_FILE, PlanMet, Quantity
from pippin.system.lines import read_lines


def write_plan_met(start: Start) -> PlanMet | None:
    """Compare a finished training with its plan, and keep the result in the run folder.

    Returns:
        The comparison; None without a run folder.

    Raises:
        OSError: the folder cannot be written.
    """
    if start.run is None:
        return None
    planned_hours = utilisation = None
    if start.knows_speed:
        placement = start.plan.chosen(start.recipe.train)
        planned_hours, utilisation = placement.hours, start.cluster.utilisation
    device = torch.device("cpu" if start.gpu is None else "cuda")
    met = PlanMet(
        device="cpu" if start.gpu is None else start.gpu.name,
        world_size=start.world_size,
        images=start.recipe.train.images,
        utilisation=utilisation,
        hours=Quantity(planned=planned_hours, measured=measured_hours(start.run.log)),
        memory=Quantity(
            planned=None if start.gpu is None else float(start.memory),
            measured=float(peak_memory(device)),
        ),
        checkpoints=_checkpoints(start),
        caches=_caches(start),
    )
    met.save(start.run.path / PLAN_FILE)
    return met


def measured_hours(log: Path) -> float | None:
    """Hours of all steps by the log: of each line, its images over its images/s; None without
    lines."""
    seconds, before = 0.0, 0
    for line in read_lines(log).objects.values():
        speed, images = line.get("images_per_second"), line.get("images")
        if isinstance(speed, float | int) and speed > 0 and isinstance(images, int):
            seconds += (images - before) / speed
            before = images
    return seconds / 3600 if before else None


def _checkpoints(start: Start) -> Quantity:
    """Bytes of the checkpoints that are kept, and of as many by the plan."""
    assert start.run is not None
    kept = list_checkpoints(start.run.checkpoints)
    return Quantity(
        planned=float(len(kept) * start.stored_sizes.checkpoint),
        measured=float(sum(folder_bytes(path) for path in kept)),
    )


def _caches(start: Start) -> Quantity:
    """Bytes of the caches by the plan, and of those that were built since the checks."""
    needs = [need for need in start.disk_needs if need.shared is not None]
    new = {c.path: c.num_bytes for need in needs for c in caches_of(need)}
    built = sum(size for path, size in new.items() if path not in start.caches_before)
    planned = float(sum(need.num_bytes for need in needs))
    return Quantity(planned=planned, measured=float(built) if built else None)

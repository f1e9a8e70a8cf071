# SPDX-License-Identifier: Apache-2.0
"""The resolved plan of a start, as ``--dry-run`` prints it."""

from collections.abc import Iterator

from pippin.planning.fitting import option_lines
from pippin.planning.plan import Plan
from pippin.preflight.captioning import describe_captioning
from pippin.preflight.checks import CHECKS, failures, refuse
from pippin.preflight.disk import DiskNeed
from pippin.preflight.inputs import describe_images
from pippin.preflight.notes import start_notes
from pippin.preflight.resources import MAX_OPTIONS, gigabytes, missing_bytes
from pippin.preflight.start import Start, free_bytes
from pippin.runs.folder import WRITTEN, path_settings


def resolved_plan(start: Start) -> list[str]:
    """Run all checks, then describe what would be trained or built, where, and at what cost.

    Raises:
        ValueError, OSError: a check failed, see :func:`pippin.preflight.checks.refuse`.
    """
    refuse(failures(start))
    passed = ", ".join(check.name for check in CHECKS)
    rows = [("checks passed", passed), ("images", describe_images(start))]
    rows += [*describe_captioning(start), *_training(start), *_disk(start), *_places(start)]
    rows += [("note", note) for note in start_notes(start)]
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {text}" for name, text in rows]


def _training(start: Start) -> Iterator[tuple[str, str]]:
    """Rows on steps, ranks, memory and hours."""
    if start.run is None:
        return
    train, planned = start.recipe.train, start.plan
    micro, local = planned.micro_batch, planned.local_batch
    device = "CPU" if start.gpu is None else start.gpu.name
    yield "steps", f"{planned.steps:,} of {train.batch_size} images ({train.images:,} in total)"
    ranks = f"{start.world_size} rank{'s' if start.world_size > 1 else ''}"
    yield "batch", f"{ranks} on {device}, {local} images each, {micro} at once"
    placement = planned.chosen(train)
    limit = "" if start.gpu is None else f" of {gigabytes(start.gpu.memory)}"
    how = f"{placement.layout}, checkpointing {placement.checkpointing}"
    yield "memory", f"{gigabytes(placement.memory)}{limit} on each device by the plan ({how})"
    yield "hours", _hours(start, planned)
    if start.gpu is not None:
        for line in option_lines(planned.options[:MAX_OPTIONS]):
            yield "fits too", line


def _hours(start: Start, planned: Plan) -> str:
    if not start.knows_speed:
        return "unknown on this device; `pippin plan RECIPE --device h100` gives those of a GPU"
    hours = planned.chosen(start.recipe.train).hours
    return f"{hours:.3g} at an assumed {planned.cluster.utilisation:.0%} of the peak"


def _disk(start: Start) -> Iterator[tuple[str, str]]:
    for need in start.disk_needs:
        yield "disk", describe_need(need)


def describe_need(need: DiskNeed) -> str:
    """``1.2 GB of 30 GB free in FOLDER: what``."""
    there = need.num_bytes - missing_bytes(need)
    present = f", {gigabytes(there)} of it there" if there else ""
    free = gigabytes(free_bytes(need.folder))
    return f"{gigabytes(need.num_bytes)}{present} ({free} free) in {need.folder}: {need.what}"


def _places(start: Start) -> Iterator[tuple[str, str]]:
    """Rows on folders that are written."""
    if start.run is not None:
        state = "resumes" if start.resumes else "starts"
        yield "run folder", f"{start.run.path} ({state})"
    settings = path_settings(start.located)
    if start.shards is not None:
        yield "data.path", settings["data.path"]
    for name in WRITTEN:
        if name in settings and (name != "text.folder" or start.is_text):
            yield name, settings[name]

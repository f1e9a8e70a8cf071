# SPDX-License-Identifier: Apache-2.0
"""Checks of memory and disk space by the plan."""

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from pippin.data.cache.cache_folders import CacheFolder, list_caches
from pippin.planning.fitting import option_lines
from pippin.planning.plan import Plan
from pippin.preflight.disk import DiskNeed
from pippin.preflight.start import Start, free_bytes, nearest_existing
from pippin.runs.checkpoint_folders import list_checkpoints
from pippin.runs.storage.average_snapshots import list_snapshots

IGNORE = "--ignore-plan"
MAX_OPTIONS = 4
"""Number of options in a message."""
SLURM_GB = 2**30
"""Bytes of one unit of ``slurm.memory_gb``."""
PROCESS_GB = 4
"""Memory of the program and its workers, as a suggestion adds it."""


def check_memory(start: Start) -> Iterator[str]:
    """Refuse settings that need more memory than a GPU has, by the plan."""
    if start.elsewhere or start.ignore_plan or start.run is None:
        return
    gpu = start.gpu
    if gpu is None or start.memory <= gpu.memory:
        return
    micro = start.recipe.train.micro_batch(start.recipe.train.local_batch(start.world_size))
    yield (
        f"by the plan, training takes {gigabytes(start.memory)} of each GPU at {micro} images at "
        f"once, and {gpu.name} has {gigabytes(gpu.memory)}; settings that fit and change rounding "
        f"only, fewest hours first:{listed(_option_lines(start.plan))}\nadd one of these lines to "
        f"the command, or {IGNORE} to start in any case"
    )


def check_node_memory(start: Start, *, memory_gb: int, gpus: int) -> Iterator[str]:
    """Refuse a Slurm job with less memory than its training takes on the node, by the plan: on a
    CPU all tensors, beside a GPU the copy of a checkpoint that is written during further steps.

    Args:
        start: the training.
        memory_gb: as in ``slurm.memory_gb``.
        gpus: as in ``slurm.gpus``.
    """
    if start.ignore_plan or start.is_finished:
        return
    on_gpu = gpus > 0 and start.recipe.train.device != "cpu"
    copy = start.stored_sizes.checkpoint if start.recipe.train.checkpoint_overlap else 0
    needed = copy + (0 if on_gpu else start.memory)
    given = memory_gb * SLURM_GB
    if needed > given:
        what = "a copy of a checkpoint" if on_gpu else "all tensors of the training"
        enough = math.ceil(needed / SLURM_GB) + PROCESS_GB
        yield (
            f"slurm.memory_gb is {memory_gb} ({gigabytes(given)}), and by the plan the node's "
            f"memory must hold {what}, {gigabytes(needed)}, beside the program itself: type "
            f"--slurm.memory-gb {enough}, or {IGNORE} to start in any case"
        )


def listed(lines: Iterable[str]) -> str:
    """Lines of a message, indented."""
    return "".join(f"\n  {line}" for line in lines)


def _option_lines(planned: Plan) -> list[str]:
    return option_lines(planned.options[:MAX_OPTIONS])


def check_disk(start: Start) -> Iterator[str]:
    """Refuse a start whose caches and checkpoints need more space than their disks have."""
    if not start.ignore_plan:
        yield from disk_failures(start.disk_needs)


def disk_failures(needs: Iterable[DiskNeed]) -> Iterator[str]:
    """Messages about disks with too little space.

    Args:
        needs: of one or several trainings; caches that they share count once. What the folders
            hold already is subtracted: checkpoints, snapshots, and caches that may be those of the
            training, which is certain only when all images are read.
    """
    for folder, own in _by_disk(needs).items():
        needed = sum(missing_bytes(need) for need in own)
        free = free_bytes(folder)
        if needed > free:
            parts = listed(f"{gigabytes(need.num_bytes)}: {need.what}" for need in own)
            yield (
                f"the disk of {folder} has {gigabytes(free)} free, and by the plan "
                f"{gigabytes(needed)} are needed beside what is there:{parts}\nfree some space, "
                "choose other folders (--folder, --cache.folder, --text.folder), store less "
                f"(--cache.dtype float16, --data.views 1, --train.keep-checkpoints 1), or type "
                f"{IGNORE} to start in any case"
            )


def _by_disk(needs: Iterable[DiskNeed]) -> dict[Path, list[DiskNeed]]:
    """First existing folder of each disk -> the needs there, without repeated caches."""
    folders: dict[int, Path] = {}
    own: dict[Path, list[DiskNeed]] = defaultdict(list)
    for need in unrepeated(needs):
        existing = nearest_existing(need.folder)
        own[folders.setdefault(os.stat(existing).st_dev, existing)].append(need)
    return own


def unrepeated(needs: Iterable[DiskNeed]) -> Iterator[DiskNeed]:
    """Needs without the repeated caches of several trainings."""
    seen: set[tuple[str, ...]] = set()
    for need in needs:
        if need.shared is None or need.shared not in seen:
            yield need
        seen |= {need.shared} if need.shared is not None else set()


def missing_bytes(need: DiskNeed) -> int:
    """Bytes of a need that its folder does not hold yet."""
    return max(0, need.num_bytes - _present_bytes(need))


def _present_bytes(need: DiskNeed) -> int:
    if need.shared is None:
        snapshots = list_snapshots(need.folder).values()
        kept = sum(folder_bytes(path) for path in list_checkpoints(need.folder))
        return kept + sum(path.stat().st_size for path in snapshots)
    return sum(cache.num_bytes for cache in caches_of(need))


def caches_of(need: DiskNeed) -> list[CacheFolder]:
    """Caches in the folder of a need that may be its own: of the same kind, and without an
    ingredient that differs. Ingredients of an unfinished cache are unknown."""
    kind = "" if need.shared is None else need.shared[0]
    flags = (kind == "captions", kind == "features")
    caches = (c for c in list_caches(need.folder) if (c.is_text, c.is_features) == flags)
    return [cache for cache in caches if _may_be_own(cache, need)]


def _may_be_own(cache: CacheFolder, need: DiskNeed) -> bool:
    common = cache.ingredients.keys() & need.ingredients.keys()
    return all(cache.ingredients[name] == need.ingredients[name] for name in common)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def gigabytes(count: float) -> str:
    """Bytes in GB (10^9), or in MB below one tenth of a GB."""
    return f"{count / 1e9:.3g} GB" if count >= 1e8 else f"{count / 1e6:.3g} MB"

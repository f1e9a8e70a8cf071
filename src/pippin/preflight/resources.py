# SPDX-License-Identifier: Apache-2.0
"""Checks of memory and disk space by the plan."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from pippin.data.cache.cache_folders import CacheFolder, list_caches
from pippin.planning.fitting import option_lines
from pippin.planning.plan import Plan
from pippin.preflight.start import DiskNeed, Start, free_bytes, nearest_existing
from pippin.runs.checkpoint_folders import list_checkpoints

IGNORE = "--ignore-plan"
MAX_OPTIONS = 4
"""Number of options in a message."""


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
            hold already is subtracted: all caches there, since which of them fit is known only
            when all images are read.
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
        return sum(folder_bytes(path) for path in list_checkpoints(need.folder))
    return sum(cache.num_bytes for cache in caches_of(need))


def caches_of(need: DiskNeed) -> list[CacheFolder]:
    """Caches of the kind of a need in its folder."""
    is_text = need.shared is not None and need.shared[0] == "captions"
    return [cache for cache in list_caches(need.folder) if cache.is_text == is_text]


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def gigabytes(count: float) -> str:
    """Bytes in GB (10^9), or in MB below one tenth of a GB."""
    return f"{count / 1e9:.3g} GB" if count >= 1e8 else f"{count / 1e6:.3g} MB"

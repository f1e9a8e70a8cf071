# SPDX-License-Identifier: Apache-2.0
"""Checks before a training or a cache build: one list, which every verb runs in its order.

No check writes, builds a cache or makes a folder. Failures of several checks are one message.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pippin.config import ConfigError
from pippin.data.cache.cache_folders import list_caches
from pippin.data.config import ImagesConfig
from pippin.preflight.captioning import check_captioner
from pippin.preflight.inputs import (
    check_autoencoder,
    check_captions,
    check_first_images,
    check_initial_weights,
    check_repa_encoder,
    check_text_encoder,
)
from pippin.preflight.resources import check_disk, check_memory
from pippin.preflight.start import Start, nearest_existing
from pippin.recipes.checks import check_start, recipe_failures
from pippin.system.device import resolve_device


class Check(NamedTuple):
    """One check."""

    name: str
    run: Callable[[Start], Iterator[str | Exception]]
    """Yields failures, or raises one."""
    needs: tuple[str, ...] = ()
    """Checks that must have passed, because this one reads what they check."""


class Failed(NamedTuple):
    """Failure of a check."""

    name: str
    error: Exception


def _settings(start: Start) -> Iterator[Exception]:
    """Refuse settings that do not fit each other, or the number of ranks."""
    yield from recipe_failures(start.located)
    if not start.resumes and start.run is not None:
        check_start(start.recipe)
    start.recipe.train.local_batch(start.world_size)


def _device(start: Start) -> Iterator[str]:
    """Refuse a device that this machine lacks."""
    if not start.elsewhere:
        resolve_device(start.recipe.train.device)
    yield from ()


def _run_folder(start: Start) -> Iterator[str]:
    """Refuse a folder of another run, before anything is computed for this one."""
    if start.run is not None:
        start.run.check(start.recipe, resume=start.resumes)
    yield from ()


def _writable_folders(start: Start) -> Iterator[str]:
    """Refuse folders that cannot be made or written."""
    for option, folder in _written_folders(start).items():
        existing = nearest_existing(folder)
        if not existing.is_dir():
            yield f"{option} {folder}: a folder is needed, and {existing} is a file"
        elif not os.access(existing, os.W_OK | os.X_OK):
            yield (
                f"{option} {folder} cannot be written: no permission in {existing}; give another "
                f"{option}, or the permission (chmod u+w)"
            )


def _written_folders(start: Start) -> dict[str, Path]:
    """Option -> folder that the start must write. The index of a folder of images may stay
    unwritten, and so may caches in a folder that holds some: they may be all."""
    located, folders = start.located, {}
    if start.run is not None:
        folders["--folder"] = start.run.path
    if start.shards is not None and isinstance(located.data, ImagesConfig):
        folders["--data.path"] = Path(located.data.path)
    if located.cache.enabled and not _holds_caches(Path(located.cache.folder), is_text=False):
        folders["--cache.folder"] = Path(located.cache.folder)
    if start.is_text and not _holds_caches(Path(located.text.folder), is_text=True):
        folders["--text.folder"] = Path(located.text.folder)
    return folders


def _holds_caches(folder: Path, *, is_text: bool) -> bool:
    return any(cache.is_text == is_text for cache in list_caches(folder))


CHECKS: tuple[Check, ...] = (
    Check("settings", _settings),
    Check("device", _device),
    Check("run folder", _run_folder),
    Check("writable folders", _writable_folders),
    Check("initial weights", check_initial_weights),
    Check("autoencoder", check_autoencoder),
    Check("text encoder", check_text_encoder),
    Check("REPA's encoder", check_repa_encoder),
    Check("captioner", check_captioner),
    Check("captions", check_captions, needs=("captioner",)),
    Check("first images", check_first_images, needs=("captions",)),
    Check("memory", check_memory, needs=("settings", "device", "autoencoder", "captions")),
    Check("disk", check_disk, needs=("autoencoder", "captions")),
)
"""All checks, in order: the quick ones first, then those that read files, then the plan."""


def failures(start: Start, checks: Sequence[Check] = CHECKS) -> list[Failed]:
    """Run the checks, and return the failures of all.

    Checks whose ``needs`` failed are skipped.
    """
    failed: list[Failed] = []
    for check in checks:
        if {entry.name for entry in failed} & set(check.needs):
            continue
        errors = list(_errors(check, start))
        texts = {str(error) for error in errors}  # the later check knows more of the same failure
        failed = [entry for entry in failed if str(entry.error) not in texts]
        failed += [Failed(check.name, error) for error in errors]
    return failed


def _errors(check: Check, start: Start) -> Iterator[Exception]:
    """Errors that a check yields or raises."""
    try:
        for failure in check.run(start):
            yield ConfigError(failure) if isinstance(failure, str) else failure
    except (ValueError, OSError) as error:
        yield error


def refuse(failed: Sequence[Failed]) -> None:
    """Raise the only failure, or one error that lists several.

    Raises:
        ValueError, OSError: the failure of a check, or all of them.
    """
    if len(failed) == 1:
        raise failed[0].error
    if failed:
        lines = "".join(f"\n{n}. {name}: {error}" for n, (name, error) in enumerate(failed, 1))
        raise ConfigError(f"{len(failed)} checks failed; nothing was written:{lines}")


def check_before_start(start: Start) -> None:
    """Run all checks, and refuse the start if one fails.

    Raises:
        ValueError, OSError: as :func:`refuse`.
    """
    refuse(failures(start))

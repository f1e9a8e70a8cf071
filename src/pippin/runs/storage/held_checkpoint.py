# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a run that may still train, held while they are read."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pippin.runs.checkpoint import checkpoint_problem
from pippin.runs.checkpoint_folders import list_checkpoints
from pippin.runs.checkpoint_state import CheckpointError
from pippin.system.lock import share_directory


@contextmanager
def held_checkpoint(
    folder: Path, images_seen: int | None = None
) -> Iterator[tuple[Path | None, list[str]]]:
    """Newest intact checkpoint, or the one at a number of images, which no training removes
    within the body; and the reasons why newer ones were skipped.

    Raises:
        CheckpointError: no intact checkpoint at ``images_seen``; the message lists those there
            are.
        FormatError: a checkpoint has a newer format version.
    """
    problems: list[str] = []
    for path in _candidates(folder, images_seen):
        with ExitStack() as stack:
            try:
                stack.enter_context(share_directory(path))
            except FileNotFoundError:  # training removed it meanwhile
                continue
            if not path.exists():
                continue
            if (problem := checkpoint_problem(path)) is None:
                yield path, problems
                return
        problems.append(problem)
    if images_seen is not None:
        removed = f"{folder / str(images_seen)} was just removed by training; choose a newer one"
        raise CheckpointError(problems[0] if problems else removed)
    yield None, problems


def no_checkpoint_error(source: Path | str, problems: list[str]) -> ValueError:
    """Error of a run without an intact checkpoint.

    Args:
        source: the run, as the user named it.
        problems: reasons why its checkpoints were skipped.
    """
    if not problems:
        return ValueError(f"{source} has no checkpoint yet; train it to at least one first")
    reasons = "".join(f"\n  skipped: {problem}" for problem in problems)
    return ValueError(
        f"{source} has no usable checkpoint: restore one, or train in another folder{reasons}"
    )


def _candidates(folder: Path, images_seen: int | None) -> list[Path]:
    """All checkpoints, the most images first, or the one at a number of images."""
    paths = list_checkpoints(folder)
    if images_seen is None:
        return paths
    chosen = [path for path in paths if int(path.name) == images_seen]
    if not chosen:
        there = ", ".join(path.name for path in reversed(paths)) or "none"
        raise CheckpointError(
            f"{folder} has no checkpoint at {images_seen} images; there are: {there}"
        )
    return chosen

# SPDX-License-Identifier: Apache-2.0
"""Previews of one run over time, with their prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pippin.reports.figures.gallery import Frame, manifest
from pippin.reports.figures.prompts import prompt_texts
from pippin.reports.page import ImageEmbedder
from pippin.reports.report_source import Run
from pippin.runs.folder import RunFolder

T = TypeVar("T")
SHOWN = 6
"""Largest number of previews on a page: the first, the last, and some evenly between them."""
NO_PROMPTS = "the run does not record their prompts"


@dataclass(frozen=True, kw_only=True)
class Previews:
    """Grids of the same seeds and prompts at several times of the training."""

    frames: tuple[Frame, ...]
    """In the order of training."""
    note: str
    prompts: tuple[str, ...]
    """Prompt and seed of every image of a grid, row by row; empty without captions."""


def previews(run: Run, embedder: ImageEmbedder, *, of_text: bool) -> Previews | None:
    """Previews that the training of a run wrote; None if there are none.

    Args:
        run: a run.
        embedder: embeds the grids; those beyond its size limit are skipped with a note.
        of_text: True for a model of captions, whose previews have prompts.
    """
    folder = RunFolder(run.folder)
    grids = folder.list_previews()
    if not grids:
        return None
    prompts = prompt_texts(_rows(folder.previews))
    notes = [f"{_counted(len(grids))}, by the averaged weights (EMA), of the same seeds"]
    if len(grids) > SHOWN:
        notes[0] = f"{SHOWN} of {notes[0]}; the others are in previews/"
    if of_text and not prompts:
        notes.append(NO_PROMPTS)
    chosen = evenly_spaced(grids)
    return Previews(
        frames=tuple(_frame(images, path, embedder) for images, path in chosen),
        note="; ".join(notes),
        prompts=prompts,
    )


def evenly_spaced(items: Sequence[T]) -> Sequence[T]:
    """At most :data:`SHOWN` items in their order, the first and the last among them."""
    if len(items) <= SHOWN:
        return items
    return [items[round(index * (len(items) - 1) / (SHOWN - 1))] for index in range(SHOWN)]


def _rows(folder: Path) -> list[dict[str, object]]:
    images = manifest(folder / "manifest.json").get("images")
    return [row for row in images if isinstance(row, dict)] if isinstance(images, list) else []


def _frame(images: int, path: Path, embedder: ImageEmbedder) -> Frame:
    image, missing = embedder.embed(path)
    label = f"{images:,} images seen"
    return Frame(
        label=label,
        position=None,
        image=image,
        missing=missing,
        alt=f"grid of preview samples after {label}",
    )


def _counted(count: int) -> str:
    return f"{count} preview" if count == 1 else f"{count} previews"

# SPDX-License-Identifier: Apache-2.0
"""A page of samples: what was asked for, and below it what was drawn."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pippin.config import ConfigError
from pippin.study.gallery import manifest
from pippin.study.page import write_page
from pippin.study.pictures import Album, Picture

SHOWN = 120
"""Samples on a page; a folder may hold thousands."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A prompt or class with its samples."""

    words: str
    pictures: tuple[Picture, ...]
    seeds: str


def holds_samples(folder: Path) -> bool:
    """Whether ``pippin sample`` wrote a folder, by its manifest."""
    return "images" in manifest(folder / "manifest.json")


def render_samples(folder: Path, out: Path | None = None, *, title: str = "Samples") -> Path:
    """Write the page of a folder of ``pippin sample``, and return its path.

    Args:
        folder: with a manifest.
        out: the file to write; None = ``report.html`` in the folder.
        title: of the page.

    Raises:
        ConfigError: the folder has no manifest that can be read, or none of its images is there.
    """
    listed = manifest(folder / "manifest.json")
    rows = [row for row in listed.get("images", []) if isinstance(row, dict)]
    asked = _asked(folder, rows[:SHOWN])
    if not asked:
        raise ConfigError(
            f"{folder} has no samples to show: give a folder that `pippin sample` wrote"
        )
    protocol = listed.get("protocol")
    context = {
        "title": title,
        "asked": asked,
        "total": len(rows),
        "shown": sum(len(one.pictures) for one in asked),
        "protocol": sorted(protocol.items()) if isinstance(protocol, dict) else [],
    }
    return write_page("samples.html.jinja", context, out or folder / "report.html")


def _asked(folder: Path, rows: list[dict[str, Any]]) -> list[Asked]:
    """Samples by what was asked for, in the order in which it was asked first."""
    album = Album()
    groups: dict[str, list[tuple[str, Picture]]] = {}
    for row in rows:
        picture, _ = album.embed(folder / Path(str(row.get("file"))).name)
        words = row.get("prompt", row.get("class", row.get("label")))
        if picture is not None:
            groups.setdefault(str(words), []).append((str(row.get("seed")), picture))
    return [
        Asked(
            words=words,
            pictures=tuple(picture for _, picture in found),
            seeds=", ".join(seed for seed, _ in found),
        )
        for words, found in groups.items()
    ]

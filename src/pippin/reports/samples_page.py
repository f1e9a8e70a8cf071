# SPDX-License-Identifier: Apache-2.0
"""A page of samples, grouped by prompt or class."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pippin.config import ConfigError
from pippin.reports.figures.gallery import manifest
from pippin.reports.page import EmbeddedImage, ImageEmbedder, write_page

SHOWN = 120
"""Largest number of samples on a page; a folder may hold thousands."""


@dataclass(frozen=True, kw_only=True)
class PromptSamples:
    """A prompt or class with its samples."""

    prompt: str
    images: tuple[EmbeddedImage, ...]
    seeds: str


def has_sample_manifest(folder: Path) -> bool:
    """True if the folder has a manifest of ``pippin sample``."""
    return "images" in manifest(folder / "manifest.json")


def render_samples(folder: Path, out: Path | None = None, *, title: str = "Samples") -> Path:
    """Write the page of a folder of ``pippin sample``, and return its path.

    Args:
        folder: a folder with a manifest.
        out: the file to write; None = ``report.html`` in the folder.
        title: title of the page.

    Raises:
        ConfigError: the folder has no readable manifest, or none of its images exists.
    """
    listed = manifest(folder / "manifest.json")
    rows = [row for row in listed.get("images", []) if isinstance(row, dict)]
    groups = _group_by_prompt(folder, rows[:SHOWN])
    if not groups:
        raise ConfigError(
            f"{folder} has no samples to show: give a folder that `pippin sample` wrote"
        )
    protocol = listed.get("protocol")
    context = {
        "title": title,
        "groups": groups,
        "total": len(rows),
        "shown": sum(len(group.images) for group in groups),
        "protocol": sorted(protocol.items()) if isinstance(protocol, dict) else [],
    }
    return write_page("samples.html.jinja", context, out or folder / "report.html")


def _group_by_prompt(folder: Path, rows: list[dict[str, Any]]) -> list[PromptSamples]:
    """Samples grouped by prompt or class, in the order of the first sample of each."""
    embedder = ImageEmbedder()
    groups: dict[str, list[tuple[str, EmbeddedImage]]] = {}
    for row in rows:
        image, _ = embedder.embed(folder / Path(str(row.get("file"))).name)
        prompt = row.get("prompt", row.get("class", row.get("label")))
        if image is not None:
            groups.setdefault(str(prompt), []).append((str(row.get("seed")), image))
    return [
        PromptSamples(
            prompt=prompt,
            images=tuple(image for _, image in samples),
            seeds=", ".join(seed for seed, _ in samples),
        )
        for prompt, samples in groups.items()
    ]

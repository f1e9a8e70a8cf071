# SPDX-License-Identifier: Apache-2.0
"""Pairs of samples of two arms at equal seeds and classes."""

from dataclasses import dataclass
from typing import Any

from pippin.study.embedded_images import ImageEmbedder
from pippin.study.gallery import Frame, sample_rows, samples_folder
from pippin.study.side_by_side import Pair, SourcePair
from pippin.study.source import Run

SHOWN = 12
"""Largest number of pairs of samples for each pair of arms."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """The samples of both arms for one sample seed and class."""

    caption: str
    first: Frame
    second: Frame


@dataclass(frozen=True, kw_only=True)
class Board:
    """The tiles of a pair of arms."""

    pair: Pair
    title: str
    tiles: tuple[Tile, ...]
    note: str
    """Reason for missing tiles; empty if there are tiles."""


def boards(both: SourcePair, embedder: ImageEmbedder) -> list[Board]:
    """One board for each pair of arms, from the first training seed that both arms have."""
    return [_board(both, pair, embedder) for pair in both.pairs]


def _board(both: SourcePair, pair: Pair, embedder: ImageEmbedder) -> Board:
    for seed in both.source.declaration.seeds:
        first, second = (both.source.run(arm, seed) for arm in (pair.first, pair.second))
        if first is None or second is None:
            continue
        first_rows, second_rows = _by_request(first), _by_request(second)
        shared = [key for key in first_rows if key in second_rows]
        tiles = [
            _tile(first, second, first_rows[key], second_rows[key], embedder)
            for key in shared[:SHOWN]
        ]
        note = "" if shared else "their samples have no seed and class in common"
        title = "one run each" if both.are_runs else f"training seed {seed}"
        return Board(pair=pair, title=title, tiles=tuple(tiles), note=note)
    return Board(pair=pair, title="", tiles=(), note="they have no training seed in common")


def _by_request(run: Run) -> dict[tuple[str, str], dict[str, Any]]:
    """(seed, class) -> the manifest's row of the sample."""
    rows = [row for row in sample_rows(run) if {"seed", "label", "file"} <= set(row)]
    return {(str(row["seed"]), str(row.get("class", row["label"]))): row for row in rows}


def _tile(
    first: Run,
    second: Run,
    first_row: dict[str, Any],
    second_row: dict[str, Any],
    embedder: ImageEmbedder,
) -> Tile:
    caption = f"{first_row.get('class', first_row['label'])}, seed {first_row['seed']}"
    frames = [
        _frame(run, str(row["file"]), position, caption, embedder)
        for position, (run, row) in enumerate(((first, first_row), (second, second_row)))
    ]
    return Tile(caption=caption, first=frames[0], second=frames[1])


def _frame(run: Run, name: str, position: int, caption: str, embedder: ImageEmbedder) -> Frame:
    """The frame of a sample. Manifests are untrusted: only files in the same folder are opened."""
    path = samples_folder(run) / name
    in_run_folder = path.parent == samples_folder(run) and not path.is_symlink()
    image, missing = embedder.embed(path) if in_run_folder else (None, "not a file of the run")
    alt = f"sample of {run.arm}: {caption}"
    return Frame(label=run.arm, position=position, image=image, missing=missing, alt=alt)

# SPDX-License-Identifier: Apache-2.0
"""Samples of two arms at equal seeds and classes, one below the other."""

from dataclasses import dataclass
from typing import Any

from pippin.study.gallery import Frame, sample_rows, samples_folder
from pippin.study.pictures import Album
from pippin.study.side_by_side import Both, Pair
from pippin.study.source import Run

SHOWN = 12
"""Pairs of pictures for each pair of arms."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One sample seed and class, drawn by both."""

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
    """Why there are none; empty where there are."""


def boards(both: Both, album: Album) -> list[Board]:
    """One board for each pair of arms, from the first training seed that both have run."""
    return [_board(both, pair, album) for pair in both.pairs]


def _board(both: Both, pair: Pair, album: Album) -> Board:
    for seed in both.source.declaration.seeds:
        first, second = (both.source.run(arm, seed) for arm in (pair.first, pair.second))
        if first is None or second is None:
            continue
        mine, theirs = _by_request(first), _by_request(second)
        shared = [key for key in mine if key in theirs]
        tiles = [_tile(first, second, mine[key], theirs[key], album) for key in shared[:SHOWN]]
        note = "" if shared else "their samples have no seed and class in common"
        title = "one run each" if both.are_runs else f"training seed {seed}"
        return Board(pair=pair, title=title, tiles=tuple(tiles), note=note)
    return Board(pair=pair, title="", tiles=(), note="they have no training seed in common")


def _by_request(run: Run) -> dict[tuple[str, str], dict[str, Any]]:
    """(seed, class) -> the manifest's row of the sample."""
    rows = [row for row in sample_rows(run) if {"seed", "label", "file"} <= set(row)]
    return {(str(row["seed"]), str(row.get("class", row["label"]))): row for row in rows}


def _tile(
    first: Run, second: Run, mine: dict[str, Any], theirs: dict[str, Any], album: Album
) -> Tile:
    caption = f"{mine.get('class', mine['label'])}, seed {mine['seed']}"
    frames = [
        _frame(run, str(row["file"]), position, caption, album)
        for position, (run, row) in enumerate(((first, mine), (second, theirs)))
    ]
    return Tile(caption=caption, first=frames[0], second=frames[1])


def _frame(run: Run, name: str, position: int, caption: str, album: Album) -> Frame:
    """A manifest may come from anywhere: only a file right beside it is opened."""
    path = samples_folder(run) / name
    here = path.parent == samples_folder(run) and not path.is_symlink()
    picture, missing = album.embed(path) if here else (None, "not a file of the run")
    alt = f"sample of {run.arm}: {caption}"
    return Frame(label=run.arm, position=position, picture=picture, missing=missing, alt=alt)

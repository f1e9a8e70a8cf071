# SPDX-License-Identifier: Apache-2.0
import re
from collections import Counter
from pathlib import Path

import pytest

from pippin.data.table import CLASSES, pictures_of, read_table, split_of

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "data.md"


def test_the_table_is_whole() -> None:
    table = read_table()
    assert len(table) == len({picture.hexcode for picture in table}) == 4495
    assert sum(not picture.base for picture in table) == 2465
    assert {picture.group for picture in table} == {*CLASSES, "component"}
    assert all(picture.name and picture.family for picture in table)


def test_no_family_crosses_the_split() -> None:
    train = {picture.family for picture in pictures_of("train")}
    held_out = {picture.family for picture in pictures_of("held-out")}
    assert not train & held_out
    assert (len(train), len(held_out)) == (1755, 172)


def test_the_splits_cover_everything_but_the_components() -> None:
    both = [*pictures_of("train"), *pictures_of("held-out")]
    assert len(both) == len(set(both)) == 4495 - 9


def test_the_split_never_moves() -> None:
    families = ["1F600", "1F7E5", "2764-FE0F-200D-1F525", "1F476"]
    assert [split_of(family) for family in families] == ["train", "held-out", "held-out", "train"]


def test_the_docs_give_the_exact_counts() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for split in ("train", "held-out"):
        pictures = pictures_of(split)
        base = [picture for picture in pictures if not picture.base]
        row = f"| {split} | {len({p.family for p in base})} | {len(base)} | {len(pictures)} |"
        assert row in text
    counts = {
        s: Counter(p.group for p in pictures_of(s) if not p.base) for s in ("train", "held-out")
    }
    for name in CLASSES:
        assert re.search(
            rf"\| {name} \| {counts['train'][name]} \| {counts['held-out'][name]} \|", text
        )


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'train', 'held-out'.*'test'"):
        pictures_of("test")

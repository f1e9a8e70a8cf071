# SPDX-License-Identifier: Apache-2.0
import re
from collections import Counter
from pathlib import Path

import pytest

from pippin.data.sources.openmoji_table import CLASSES, emojis_of_split, read_table, split_of

DOCS = Path(__file__).parents[3] / "docs" / "reference" / "data.md"


def test_the_table_is_whole() -> None:
    table = read_table()
    assert len(table) == len({image.hexcode for image in table}) == 4495
    assert sum(not image.base for image in table) == 2465
    assert {image.group for image in table} == {*CLASSES, "component"}
    assert all(image.name and image.family for image in table)


def test_no_family_crosses_the_split() -> None:
    train = {image.family for image in emojis_of_split("train")}
    held_out = {image.family for image in emojis_of_split("held-out")}
    assert not train & held_out
    assert (len(train), len(held_out)) == (1755, 172)


def test_the_splits_cover_everything_but_the_components() -> None:
    both = [*emojis_of_split("train"), *emojis_of_split("held-out")]
    assert len(both) == len(set(both)) == 4495 - 9


def test_the_split_never_moves() -> None:
    families = ["1F600", "1F7E5", "2764-FE0F-200D-1F525", "1F476"]
    assert [split_of(family) for family in families] == ["train", "held-out", "held-out", "train"]


def test_the_docs_give_the_exact_counts() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for split in ("train", "held-out"):
        emojis = emojis_of_split(split)
        base = [image for image in emojis if not image.base]
        row = f"| {split} | {len({p.family for p in base})} | {len(base)} | {len(emojis)} |"
        assert row in text
    counts = {
        s: Counter(p.group for p in emojis_of_split(s) if not p.base)
        for s in ("train", "held-out")
    }
    for name in CLASSES:
        assert re.search(
            rf"\| {name} \| {counts['train'][name]} \| {counts['held-out'][name]} \|", text
        )


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'train', 'held-out'.*'test'"):
        emojis_of_split("test")

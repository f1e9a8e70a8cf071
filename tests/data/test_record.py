# SPDX-License-Identifier: Apache-2.0
"""Record of a data set: equal for the same data, else a description of the changes."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from noise_images import write_noise

from pippin.data.config import ImagesConfig, OpenMojiConfig
from pippin.data.record import (
    DataRecord,
    class_changes,
    decoder_change,
    image_changes,
    record_data,
)
from pippin.data.sources.factory import build_source
from pippin.data.sources.images import ImageFolderSource


@pytest.fixture
def photos(tmp_path: Path) -> ImagesConfig:
    (tmp_path / "photos").mkdir()
    rows = []
    for number in range(12):
        label = ("cat", "dog", "zebra")[number % 3]
        name = f"{label}/{number}.png"
        write_noise(tmp_path / "photos" / name, number, (20, 20))
        rows.append({"file_name": name, "label": label, "caption": f"{label} {number}"})
    write_rows(tmp_path / "photos", rows)
    return ImagesConfig(
        path=str(tmp_path / "photos"),
        held_out_share=0.3,
        index_folder=str(tmp_path / "index"),
    )


def write_rows(folder: Path, rows: list[dict]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(text)


def rows_of(config: ImagesConfig) -> list[dict]:
    lines = (Path(config.path) / "metadata.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def record(config: ImagesConfig) -> DataRecord:
    source = ImageFolderSource(config, "train")
    return record_data(source, source.with_split("held-out"), ["name"])


def test_a_record_names_what_the_folder_has_and_survives_json(photos):
    result = record(photos)
    assert result.class_names == ("cat", "dog", "zebra")
    assert result.caption_kinds == ("name",)
    assert result.train.images + result.held_out.images == 12
    assert sum(result.train.per_class) == result.train.images
    assert result.layout == "metadata" and result.kind == "images"
    assert DataRecord.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_both_splits_of_one_scan_are_those_of_two(photos):
    for split in ("train", "held-out"):
        alone = ImageFolderSource(photos, split)
        other = "train" if split == "held-out" else "held-out"
        shared = ImageFolderSource(photos, other).with_split(split)
        assert [shared.key(i) for i in range(len(shared))] == [
            alone.key(i) for i in range(len(alone))
        ]
        assert (shared.split, shared.source_hash()) == (split, alone.source_hash())


def test_the_same_images_elsewhere_have_the_same_record(photos, tmp_path):
    moved = replace(photos, path=str(tmp_path / "moved"))
    before = record(photos)
    shutil.move(photos.path, moved.path)
    assert record(moved) == before
    assert image_changes(before, record(moved), ["name"]) == ""


def test_another_decoder_changes_the_source_hash_and_not_the_content(photos, monkeypatch):
    before = record(photos)
    monkeypatch.setattr("pippin.data.sources.images.PIL.__version__", "0.0")
    after = record(photos)
    assert after.source_hash != before.source_hash
    assert after.train == before.train and image_changes(before, after) == ""
    assert decoder_change(before, after).endswith("Pillow 0.0 does now")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": "dog"}, r"cat \d -> \d, dog \d -> \d"),
        ({"caption": "a lion"}, r"captions of the (training|held-out) images differ \(name\)"),
    ],
)
def test_one_row_that_changes_is_said(photos, change, said):
    before, rows = record(photos), rows_of(photos)
    rows[0] |= change
    write_rows(Path(photos.path), rows)
    result = image_changes(before, record(photos), ["name"])
    assert re.search(said, result), result
    if "caption" in change:  # which a model of classes does not read
        assert image_changes(before, record(photos)) == ""


def test_other_bytes_are_other_images(photos):
    before = record(photos)
    for number in (0, 3, 6, 9):
        write_noise(Path(photos.path) / f"cat/{number}.png", 100 + number, (20, 20))
    assert "as before, but other files" in image_changes(before, record(photos))


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (("cat", "dog", "zebra"), ""),
        (
            ("ant", "cat", "dog"),
            "no longer there: zebra; new: ant; ids that mean another class: 0",
        ),
        (
            ("cat", "dog", "owl", "zebra"),
            "(new: owl; ids that mean another class: 2 was zebra, is",
        ),
        (("cat", "zebra"), "(no longer there: dog; ids that mean another class: 1 was dog, is ze"),
        (
            ("Cat", "dog", "zebra"),
            "no longer there: cat; new: Cat; ids that mean another class: 0",
        ),
        (
            ("dog", "cat", "zebra"),
            "(ids that mean another class: 0 was cat, is dog, 1 was dog, is",
        ),
        (("cat", "dog", "zebra", "zoo"), "class names differ (new: zoo)"),
    ],
)
def test_class_names_that_differ_are_named(now, said):
    result = class_changes(("cat", "dog", "zebra"), now)
    assert said in result and bool(result) == bool(said)


def test_many_names_are_counted():
    result = class_changes([f"class {n}" for n in range(1000)], ["class 0"])
    assert "and 994 more" in result and len(result) < 300


def test_embedded_images_have_a_record_too():
    config = OpenMojiConfig(max_pictures=20)
    both = [build_source(config, split) for split in ("train", "held-out")]
    result = record_data(*both)
    assert result.caption_kinds == ("name", "style", "tags") and result.train.images == 20
    assert result.layout is None and "flags" in result.class_names

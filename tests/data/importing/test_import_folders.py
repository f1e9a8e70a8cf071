# SPDX-License-Identifier: Apache-2.0
"""Folders inside archives are classes if there are several."""

import pytest
from archives import archive_of, image_bytes, rows_of

from pippin.data.importing.config import ImportConfig
from pippin.data.importing.importer import find_classes, import_images, inner_folder
from pippin.data.importing.shards import Part


def classes(*folders, stem="0", requested=False, label=None):
    rows = [{} if label is None else {"label": label} for _ in folders]
    part = Part(of="", rows=rows, lost=[], folders=list(folders))
    result = find_classes([(stem, part)], requested=requested)
    return result and [result.names.get(inner_folder(folder, stem)) for folder in folders]


@pytest.mark.parametrize(
    ("folders", "labels"),
    [
        (["cat", "dog"], ["cat", "dog"]),
        (["data/cat", "data/dog/big"], ["cat", "dog"]),
        (["train/cat", "val/dog"], ["cat", "dog"]),
        (["00000/cat", "00000/dog"], ["cat", "dog"]),
        (["1.0", "10.0", "2.0"], ["1", "10", "2"]),
        (["cat", "train"], ["cat", "train"]),
        (["caf\udce9", "tea"], [r"caf\xe9", "tea"]),
    ],
)
def test_folders_that_are_classes(folders, labels):
    assert classes(*folders, stem="00000") == labels


@pytest.mark.parametrize(
    "folders",
    [["", ""], ["00000", "00000"], ["images", "images"], ["a/b", "a/b"]],
)
def test_folders_that_tell_nothing(folders):
    assert classes(*folders, stem="00000") is None


def test_folders_of_some_images_are_taken_only_where_asked_for():
    assert classes("cat", "dog", "") == [None, None, None]
    assert classes("cat", "dog", "", requested=True) == ["cat", "dog", None]
    assert classes("cat", "cat", requested=True) == ["cat", "cat"]
    assert classes("cat", "cat/big") == [None, None]


def test_classes_of_rows_come_before_folders():
    assert classes("cat", "dog", label="7") is None
    assert classes("train", "val") == [None, None]


@pytest.mark.parametrize("label", [None, "folder", "none"])
def test_class_folders_of_several_archives(tmp_path, label):
    pytest.importorskip("datasets")
    for shard, folder in enumerate(("cat", "dog")):
        members = [(f"./data/{folder}/{n}.png", image_bytes(n)) for n in range(3)]
        (tmp_path / f"{shard}.tar").write_bytes(archive_of(members))
    source = f"{tmp_path}/{{0..1}}.tar"
    result = import_images(ImportConfig(source=source, label=label), tmp_path / "out")
    expected = [None] * 6 if label == "none" else ["cat"] * 3 + ["dog"] * 3
    assert [row.get("label") for row in rows_of(tmp_path / "out")] == expected
    assert result.taken["label"] == ({} if label == "none" else {"folders": 6})


def test_folders_of_some_images_are_counted(tmp_path):
    pytest.importorskip("datasets")
    names = ["cat/1.png", "dog/2.png", "3.png"]
    (tmp_path / "0.tar").write_bytes(archive_of([(name, image_bytes()) for name in names]))
    result = import_images(ImportConfig(source=str(tmp_path / "0.tar")), tmp_path / "out")
    assert (result.labels, result.unread) == (0, {"folders": 2})

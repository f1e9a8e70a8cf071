# SPDX-License-Identifier: Apache-2.0
"""Layouts that would train the wrong classes: splits as classes, tables that are not read."""

import os
from pathlib import Path

import pytest
from PIL import Image

from pippin.cli.main import main
from pippin.data.config import ImagesConfig
from pippin.data.folder.check import summarise
from pippin.data.folder.layout import LayoutFacts
from pippin.data.folder.listing import InvalidSourceError, list_images
from pippin.data.folder.scan import scan


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def put(photos: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = photos / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            Image.new("RGB", (20, 20), (number, len(name), 0)).save(path)
        else:
            path.write_text("file_name,label,text\n1.png,cat,a cat\n2.png,dog,a dog\n")


def facts(photos: Path) -> LayoutFacts:
    return list_images(ImagesConfig(path=str(photos))).facts


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (["train/1.png", "test/2.png"], "train"),
        (["train/cat/1.png", "train/dog/2.png", "val/cat/3.png"], "train"),
        (["Train/1.png", "TEST/2.png"], "Train"),
        (["training/1.png", "validation/2.png"], "training"),
        (["test/1.png", "val/2.png"], "test"),
        (["train/1.png"], "train"),
        (["train/1.png", "val/2.png", "3.png"], "train"),
    ],
)
def test_folders_of_splits_are_no_classes(photos: Path, names: list[str], first: str) -> None:
    put(photos, *names)
    listing = list_images(ImagesConfig(path=str(photos)))
    with pytest.raises(InvalidSourceError, match=rf"--data\.path {photos}/{first}; or rename"):
        listing.check_layout(str(photos))


@pytest.mark.parametrize("file", ["metadata.csv", "metadata.jsonl"])
def test_the_refusal_names_the_metadata_of_a_split(photos: Path, file: str) -> None:
    put(photos, "train/1.png", f"train/{file}", "test/1.png", f"test/{file}")
    refusal = facts(photos).refusal("photos") or ""
    assert f"--data.path photos/train (its {file} is read then); or rename" in refusal


def test_a_split_with_metadata_is_read_when_it_is_given(photos: Path) -> None:
    put(photos, "train/1.png", "train/2.png", "train/metadata.csv", "test/1.png")
    result = list_images(ImagesConfig(path=str(photos / "train")))
    assert [(entry.label, entry.captions["name"]) for entry in result.entries] == [
        ("cat", "a cat"),
        ("dog", "a dog"),
    ]
    assert result.facts.refusal(str(photos / "train")) is None


def test_metadata_in_the_folder_itself_says_the_classes(photos: Path) -> None:
    put(photos, "train/1.png", "test/2.png")
    (photos / "metadata.csv").write_text("file_name,label\ntrain/1.png,cat\ntest/2.png,dog\n")
    assert facts(photos) == LayoutFacts()


@pytest.mark.parametrize(
    "names",
    [["train/1.png", "car/2.png", "bus/3.png"], ["1.png", "2.png"], ["training set/1.png"]],
)
def test_other_layouts_pass_without_a_word(photos: Path, names: list[str]) -> None:
    put(photos, *names)
    assert facts(photos).refusal("photos") is None
    assert facts(photos).warnings("photos") == []


def test_splits_beside_other_folders_are_said(photos: Path) -> None:
    put(photos, "train/1.png", "val/2.png", "extras/3.png")
    assert facts(photos).refusal("photos") is None
    (messages,) = facts(photos).warnings("photos")
    assert "train, val have names of splits" in messages and "--data.path photos/train" in messages


def test_metadata_of_subfolders_is_said_to_be_unread(photos: Path) -> None:
    put(photos, "part1/1.png", "part1/metadata.csv", "part2/1.png", "part2/metadata.parquet")
    (messages,) = facts(photos).warnings("photos")
    assert "not read: part1/metadata.csv, part2/metadata.parquet" in messages


@pytest.mark.parametrize("name", ["captions.csv", "Metadata.csv", "labels.tsv", "data.parquet"])
def test_tables_of_other_names_are_said_by_check(photos: Path, name: str) -> None:
    put(photos, "1.png", "2.png", name)
    assert facts(photos).warnings("photos") == []
    (messages,) = facts(photos).hints("photos")
    assert f"not read: {name}" in messages and "--data.metadata NAME" in messages


def test_classes_in_one_outer_folder_are_hinted_at(photos: Path) -> None:
    put(photos, "archive/cat/1.png", "archive/dog/2.png")
    (messages,) = facts(photos).hints("photos")
    assert "--data.path photos/archive" in messages
    put(photos, "more/cat/1.png")
    assert facts(photos).hints("photos") == []


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("file_name,prompt", "the column 'prompt' is not read: the column of captions is"),
        ("file_name,Captions", "the column 'Captions' is not read"),
        ("file_name,class", "the column 'class' is not read: the column of classes is label"),
        ("file_name,split", "the column 'split' is not read: images of all splits are used"),
    ],
)
def test_columns_that_look_as_if_they_were_read(photos: Path, head: str, said: str) -> None:
    put(photos, "1.png", "2.png")
    (photos / "metadata.csv").write_text(f"{head}\n1.png,x\n2.png,y\n")
    config = ImagesConfig(path=str(photos), index_folder=str(photos.parent / "index"))
    assert any(note.startswith(said) for note in summarise(scan(config), config).notes)


def test_check_refuses_splits_and_says_what_was_skipped(photos: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(photos.parent)
    put(photos, *(f"{split}/{number}.png" for split in ("train", "val") for number in range(3)))
    put(photos, "train/@eaDir/x.png", "train/.y.png")
    os.mkfifo(photos / "val" / "z.png")
    assert main(["data", "check", "photos", "--sample", "0"]) == 1
    messages = capsys.readouterr().out
    assert "refused: the folders of images in photos have names of splits (train, val)" in messages
    assert (
        "skipped: 1 files or folders of the system or of network storage: train/@eaDir" in messages
    )
    assert "skipped: 1 hidden image files: train/.y.png" in messages
    assert "skipped: 1 names that are no regular files: val/z.png (a FIFO)" in messages
    assert main(["data", "check", "photos/train", "--sample", "0"]) == 0


def test_recaption_refuses_splits(photos: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(photos.parent)
    put(photos, "train/1.png", "val/2.png")
    Path("given.csv").write_text("file_name,caption\ntrain/1.png,red\n")
    options = ["--column", "caption_x", "--captions", "given.csv"]
    assert main(["data", "recaption", "photos", *options]) == 2
    assert "--data.path photos/train" in capsys.readouterr().err
    assert not (photos / "metadata.csv").exists()

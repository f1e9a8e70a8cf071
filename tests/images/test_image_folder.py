# SPDX-License-Identifier: Apache-2.0
"""Image files of a folder: links, special files, hidden and system names."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pippin.data.config import ImagesConfig
from pippin.data.folder.listing import list_images
from pippin.images.folder import SYSTEM_NAMES, find_images, image_paths, skipped_lines


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tmp_path / "photos"


@pytest.fixture
def put(photos: Path) -> Callable[..., None]:
    """Writes images below the folder, or beside it with ../."""

    def make(*names: str) -> None:
        for name in names:
            path = photos / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), (len(name), 0, 0)).save(path, "PNG")

    return make


def link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def names(photos: Path) -> list[str]:
    return list(find_images(photos).images)


def skipped(photos: Path) -> dict[str, str]:
    return {entry.name: entry.reason for entry in find_images(photos).skipped}


@pytest.mark.parametrize("classes", ["ab", "abc", "abcdef"])
def test_links_between_class_folders_add_nothing(photos, put, classes: str) -> None:
    put(*(f"{name}/{number}.png" for name in classes for number in range(3)))
    for name in classes:
        for other in set(classes) - {name}:
            link(photos / name / f"see-{other}", f"../{other}")
    assert names(photos) == [f"{name}/{number}.png" for name in classes for number in range(3)]
    listing = skipped(photos)
    assert set(listing.values()) == {"second link"} and len(listing) == len(classes) ** 2 - len(
        classes
    )
    (line,) = skipped_lines(find_images(photos).skipped)
    assert "a/see-b (counted as b)" in line


def test_a_folder_keeps_its_own_name_before_any_link(photos, put) -> None:
    put("zebra/1.png")
    link(photos / "ant", "zebra")
    link(photos / "bee" / "1.png", "../zebra/1.png")
    assert names(photos) == ["zebra/1.png"]
    assert skipped(photos) == {"ant": "second link", "bee/1.png": "second link"}


def test_folders_elsewhere_are_taken_through_their_first_link(photos, put) -> None:
    put("../cats/1.png", "../cats/old/2.png", "dog/3.png")
    link(photos / "cat", "../cats")
    link(photos / "cat2", "../cats")
    link(photos / "old", "../cats/old")
    assert names(photos) == ["cat/1.png", "cat/old/2.png", "dog/3.png"]
    assert skipped(photos) == {"cat2": "second link", "old": "second link"}


def test_a_part_that_was_linked_before_the_whole_is_not_listed_again(photos, put) -> None:
    put("../all/b/1.png", "../all/c/2.png")
    link(photos / "b", "../all/b")
    link(photos / "x", "../all")
    assert names(photos) == ["b/1.png", "x/c/2.png"]
    assert skipped(photos) == {"x/b": "second link"}


def test_links_to_files_count_once_and_after_folders(photos, put) -> None:
    put("../pool/1.png", "../pool/2.png", "../other/3.png")
    for name, target in {
        "a/1.png": "../../pool/1.png",
        "a/again.png": "../../pool/1.png",
        "b/1.png": "1-of-a.png",
        "b/1-of-a.png": "../a/1.png",
        "b/3.png": "../../other/3.png",
        "c": "../other",
    }.items():
        link(photos / name, target)
    assert names(photos) == ["a/1.png", "c/3.png"]
    assert {n for n, reason in skipped(photos).items() if reason == "second link"} == {
        *("a/again.png", "b/1.png", "b/1-of-a.png", "b/3.png")
    }


def test_cycles_end(photos, put, tmp_path: Path) -> None:
    put("a/1.png", "../far/2.png")
    for name, target in {
        "a/self": ".",
        "a/up": "..",
        "a/root": "/",
        "out": "../far",
        "loop.png": "loop.png",
    }.items():
        link(photos / name, target)
    link(tmp_path / "far" / "back", "../photos")
    link(tmp_path / "far" / "around", "..")
    assert names(photos) == ["a/1.png", "loop.png", "out/2.png"]  # reading loop.png says why
    listing = skipped(photos)
    assert listing.pop("a/self") == listing.pop("a/up") == listing.pop("a/root") == "link upwards"
    assert listing == {"out/back": "link upwards", "out/around": "link upwards"}


def test_a_folder_that_is_itself_a_link_is_listed(photos, put, tmp_path: Path) -> None:
    put("a/1.png")
    link(photos / "a" / "up", "../..")
    (tmp_path / "alias").symlink_to("photos")
    assert names(tmp_path / "alias") == ["a/1.png"]


def test_a_link_to_a_hidden_file_counts(photos, put) -> None:
    put(".pool/1.png", "a/.2.png")
    link(photos / "a" / "1.png", "../.pool/1.png")
    link(photos / "a" / "2.png", ".2.png")
    assert names(photos) == ["a/1.png", "a/2.png"]
    assert skipped(photos) == {"a/.2.png": "hidden"}


def test_hard_links_are_files_of_their_own(photos, put) -> None:
    put("a/1.png")
    os.link(photos / "a" / "1.png", photos / "a" / "2.png")
    assert names(photos) == ["a/1.png", "a/2.png"]


def test_what_is_no_file_is_skipped_by_name(photos, put, monkeypatch) -> None:
    put("a.png")
    monkeypatch.chdir(photos)  # names of sockets are short
    os.mkfifo("b.png")
    os.mkfifo("a.txt")
    link(Path("c.png"), "b.png")
    link(Path("d.png"), "/dev/zero")
    link(Path("e.png"), "nowhere.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("f.png")
        listing = find_images(photos)
    assert list(listing.images) == [
        "a.png",
        "e.png",
    ]  # whoever reads e.png says that it is missing
    assert not listing.others
    assert {entry.name: entry.detail for entry in listing.skipped} == {
        "a.txt": "a FIFO",
        "b.png": "a FIFO",
        "c.png": "a link to a FIFO",
        "d.png": "a link to a device",
        "f.png": "a socket",
    }


@pytest.mark.parametrize(
    "name",
    [
        *("@eaDir", "#recycle", "lost+found", "__MACOSX", "$Recycle.Bin", "@Recently-Snapshot"),
        *("System Volume Information", ".ipynb_checkpoints", "@EADIR"),
    ],
)
def test_folders_of_the_system_are_skipped_at_any_depth_and_counted(photos, put, name) -> None:
    put("cat/1.png", f"{name}/1.png", f"cat/{name}/1.png/THUMB.jpg", f"cat/deep/{name}/x/2.png")
    assert names(photos) == ["cat/1.png"]
    assert skipped(photos) == dict.fromkeys((name, f"cat/{name}", f"cat/deep/{name}"), "system")
    (line,) = skipped_lines(find_images(photos).skipped)
    assert line.startswith("3 files or folders of the system")


def test_a_folder_of_the_system_need_not_be_readable(photos, put) -> None:
    put("a.png", "lost+found/b.png")
    (photos / "lost+found").chmod(0)
    try:
        assert names(photos) == ["a.png"]
    finally:
        (photos / "lost+found").chmod(0o755)


def test_usual_names_of_classes_are_none_of_the_system() -> None:
    assert not SYSTEM_NAMES & {"train", "trash", "recycler", "tmp", "snapshot", "thumbs", "system"}


def test_types_that_are_not_read_and_names_that_collide_are_problems(photos, put) -> None:
    put("a.png", "cafe\u0301.png", "caf\u00e9.png", "b.heic", "c.txt")
    listing = find_images(photos)
    assert list(listing.images) == ["a.png", "caf\u00e9.png"]
    assert list(listing.others) == ["c.txt"]
    assert [(name, reason) for name, reason, _ in listing.problems] == [
        ("b.heic", "unsupported type"),
        ("caf\u00e9.png", "named twice"),
    ]


def test_training_and_evaluation_find_the_same_files(photos, put, tmp_path: Path) -> None:
    put("a/1.png", "a/.2.png", ".hidden/3.png", "a/@eaDir/4.png", "../far/5.png", "b/6.png")
    put("b/cafe\u0301.png", "b/caf\u00e9.png")
    link(photos / "far", "../far")
    link(photos / "b" / "again.png", "../a/1.png")
    link(photos / "b" / "see-a", "../a")
    os.mkfifo(photos / "b" / "7.png")
    entries = list_images(ImagesConfig(path=str(photos))).entries
    assert sorted(entry.path for entry in entries) == image_paths(photos)
    assert len(entries) == 4

# SPDX-License-Identifier: Apache-2.0
"""Caption files beside images, as in kohya's trainers and img2dataset."""

import errno
import re
from pathlib import Path

import pytest
from PIL import Image

from pippin.data.config import ImagesConfig
from pippin.data.folder.caption_column import add_caption_column
from pippin.data.folder.caption_files import MAX_BYTES
from pippin.data.folder.check import summarise
from pippin.data.folder.listing import list_images
from pippin.data.folder.scan import scan
from pippin.data.sources.images import ImageFolderSource
from pippin.system.files import open_regular


@pytest.fixture
def config(tmp_path: Path) -> ImagesConfig:
    return ImagesConfig(
        path=str(tmp_path / "photos"),
        index_folder=str(tmp_path / "index"),
        max_lost_share=0.5,
        resolution=16,
    )


@pytest.fixture
def put(config: ImagesConfig):
    """Write an image, or the given bytes."""

    def make(name: str, content: bytes | None = None) -> None:
        path = Path(config.path) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            Image.new("RGB", (20, 20), (len(name), sum(map(ord, name)) % 255, 9)).save(path)
        else:
            path.write_bytes(content)

    return make


def captions(config: ImagesConfig) -> dict[str, str | None]:
    return {entry.name: entry.captions.get("name") for entry in list_images(config).entries}


@pytest.mark.parametrize("folder", ["", "cat/", "00000/"])
def test_files_of_the_same_name_are_captions(config, put, folder: str) -> None:
    for name in ("a.png", "b.v2.png", "c.png", "d.PNG", "e.png", "f.png"):
        put(folder + name)
    put(f"{folder}a.txt", b"a cat,\n asleep\n")
    put(f"{folder}b.v2.caption", "\ufeffzwei Hüte".encode())
    put(f"{folder}c.txt", b" \n")
    put(f"{folder}d.TXT", b"loud")
    put(f"{folder}e.caption", b"second")
    put(f"{folder}e.txt", b"first")
    put(f"{folder}notes.txt", b"no image's")
    assert captions(config) == {
        f"{folder}a.png": "a cat, asleep",
        f"{folder}b.v2.png": "zwei Hüte",
        f"{folder}c.png": None,
        f"{folder}d.PNG": "loud",
        f"{folder}e.png": "first",
        f"{folder}f.png": None,
    }
    result = scan(config)
    assert result.other_files == {".txt": 1, ".caption": 1}
    assert result.caption_kinds == ("name",) and not result.skipped
    assert any("name (2 empty)" in note for note in summarise(result, config).notes)
    source = ImageFolderSource(config, "train")
    label = folder.strip("/") or "picture"
    texts = {source.key(i).removeprefix(folder): source.captions(i) for i in range(len(source))}
    own = {"a.png": "a cat, asleep", "c.png": label, "f.png": label}
    for name, text in own.items():
        assert texts.get(name, {"name": text}) == {"name": text}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("Hüte".encode("latin-1"), r"a\.txt beside it is not UTF-8 text \(line 1, byte 1"),
        (b"\x00h\x00i", r"a\.txt beside it is not UTF-8 text .* zero bytes"),
        (b"x" * (MAX_BYTES + 1), "has more than 65536 bytes"),
    ],
)
def test_what_is_no_caption_is_named(config, put, content: bytes, why: str) -> None:
    for name in ("a.png", "b.png", "c.png"):
        put(name)
    put("a.txt", content)
    put("b.txt", b"x" * MAX_BYTES)
    result = scan(config)
    ((name, reason, detail),) = [
        (entry.name, entry.reason, entry.detail) for entry in result.skipped
    ]
    assert (name, reason) == ("a.png", "unreadable caption")
    assert re.search(why, detail)


def test_a_caption_in_utf_16_is_read_where_a_mark_says_so(config, put) -> None:
    put("a.png")
    put("a.txt", "zwei H\u00fcte\n".encode("utf-16"))
    assert captions(config)["a.png"] == "zwei H\u00fcte"


def test_a_new_metadata_file_does_not_shut_out_what_no_caption_could_be_read_of(
    config, put
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        put(name)
    put("a.txt", "Hüte".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.png: a\.txt beside it is not .* omit 1 images"):
        add_caption_column(config, "caption_x", {"b.png": "blue"})
    put("a.txt", b"hats")
    add_caption_column(config, "caption_x", {"b.png": "blue"})
    assert captions(config)["a.png"] == "hats"


def test_a_file_that_the_system_does_not_give_loses_its_image_for_this_time(
    config, put, monkeypatch
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        put(name)
    put("a.txt", b"a cat")

    def failing(path):
        if path.name == "a.txt":
            raise OSError(errno.EIO, "Input/output error")
        return open_regular(path)

    with monkeypatch.context() as patch:
        patch.setattr("pippin.data.folder.caption_files.open_regular", failing)
        (lost,) = list_images(config).skipped
    assert (lost.name, lost.detail) == ("a.png", "a.txt cannot be read: Input/output error")
    assert captions(config)["a.png"] == "a cat"


def test_a_metadata_file_counts_and_what_it_leaves_unread_is_said(config, put) -> None:
    for name in ("a.png", "b.png", "c.png"):
        put(name)
    put("a.txt", b"a cat")
    put("metadata.csv", b"file_name\na.png\nb.png\nc.png\n")
    result = scan(config)
    assert result.unread_captions == 1 and result.other_files[".txt"] == 1
    assert any("1 images have caption files" in note for note in summarise(result, config).notes)
    put("metadata.csv", b"file_name,caption_x\na.png,dog\nb.png,\nc.png,\n")
    assert scan(config).unread_captions == 1
    put("metadata.csv", b"file_name,caption\na.png,dog\nb.png,\nc.png,\n")
    assert scan(config).unread_captions == 0
    assert captions(config)["a.png"] == "dog"


def test_a_new_metadata_file_keeps_them(config, put) -> None:
    for name in ("cat/a.png", "dog/b.png"):
        put(name)
    put("cat/a.txt", b"a cat, asleep")
    place = add_caption_column(config, "caption_blip", {"dog/b.png": "brown"})
    assert place.read_text().splitlines() == [
        "file_name,label,caption,caption_blip",
        'cat/a.png,cat,"a cat, asleep",',
        "dog/b.png,dog,,brown",
    ]
    assert captions(config) == {"cat/a.png": "a cat, asleep", "dog/b.png": None}


def test_of_two_names_that_differ_in_unicode_form_one_is_lost(config, put) -> None:
    for name in ("caf\u00e9.png", "cafe\u0301.png", "c.png"):
        put(name)
    result = list_images(config)
    assert [entry.name for entry in result.entries] == ["c.png", "caf\u00e9.png"]
    (lost,) = result.skipped
    assert lost.reason == "named twice" and "form of Unicode" in lost.detail

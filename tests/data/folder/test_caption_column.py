# SPDX-License-Identifier: Apache-2.0
"""Addition of a caption column, without any other change of a metadata file."""

import csv
import os
from pathlib import Path

import pytest
from PIL import Image

from pippin.data.config import ImagesConfig
from pippin.data.folder.caption_column import add_caption_column, read_caption_file
from pippin.data.folder.listing import list_images
from pippin.data.folder.metadata_columns import check_column

CAPTIONS = {"a.png": 'red, "so" ä', "sub/b.png": "blue"}
BLIP = "caption_blip"


def folder_of(path: Path, *names: str) -> ImagesConfig:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20)).save(path / name)
    return ImagesConfig(path=str(path))


def found(data: ImagesConfig) -> dict[str, tuple[str, str | None]]:
    entries = list_images(data).entries
    return {e.name: (e.label, e.captions.get(BLIP)) for e in entries}


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_keeps_its_rows_columns_mark_and_line_ends(
    tmp_path: Path, end: str, mark: str
) -> None:
    data = folder_of(tmp_path, "a.png", "sub/b.png", "c.png")
    rows = ["odd,file_name,odd,caption", '1,./sub\\b.png,"x, y",', "", ' ,a.png,"two', 'lines",A']
    (tmp_path / "metadata.csv").write_bytes((mark + end.join(rows) + end).encode())
    os.chmod(tmp_path / "metadata.csv", 0o640)
    place = add_caption_column(data, BLIP, CAPTIONS)
    assert place == tmp_path / "metadata.csv" and place.stat().st_mode & 0o777 == 0o640
    text = place.read_bytes().decode()
    assert text.startswith(f"{mark}odd,file_name,odd,caption,caption_blip{end}")
    with place.open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file)) == [
            ["odd", "file_name", "odd", "caption", BLIP],
            ["1", "./sub\\b.png", "x, y", "", "blue"],
            [],
            [" ", "a.png", f"two{end}lines", "A", 'red, "so" ä'],
        ]
    before = place.read_bytes()
    assert add_caption_column(data, BLIP, {"a.png": "another"}).read_bytes() == before


def test_json_lines_that_get_no_caption_keep_every_byte(tmp_path: Path) -> None:
    data = folder_of(tmp_path, "a.png", "sub/b.png", "c.png")
    kept = ['{"file_name":"c.png",   "n": 1.50}', "", '{"file_name": "z", "caption_blip": "k"}']
    lines = ['{"file_name": "a.png", "odd": [1, "\\ud800"], "caption_blip": null}', *kept]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    place = add_caption_column(data, BLIP, CAPTIONS | {"z": "other"})
    first, *others = place.read_text().split("\n")
    assert others == kept
    assert first.startswith('{"file_name": "a.png", "odd": [1, "\\ud800"], "caption_blip": "red')
    assert found(data)["a.png"] == ("picture", CAPTIONS["a.png"])


@pytest.mark.parametrize("names", [("a.png", "c.png"), ("cat/a.png", "dog/b.png"), ("x/a.png",)])
def test_a_new_file_keeps_images_and_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    data = folder_of(tmp_path, *names)
    before = found(data)
    add_caption_column(data, BLIP, {names[0]: "red"})
    after = found(data)
    assert {name: label for name, (label, _) in after.items()} == {
        name: label for name, (label, _) in before.items()
    }
    assert after[names[0]][1] == "red"
    assert not list_images(data).skipped


def test_a_name_that_no_metadata_can_give_is_refused(tmp_path: Path) -> None:
    data = folder_of(tmp_path, "a\\b.png")
    with pytest.raises(ValueError, match="rename it"):
        add_caption_column(data, BLIP, {"a\\b.png": "red"})
    assert [path.name for path in tmp_path.iterdir()] == ["a\\b.png"]


def test_a_full_disk_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = folder_of(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\na.png,cat\n")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        add_caption_column(data, BLIP, CAPTIONS)
    assert (tmp_path / "metadata.csv").read_text() == "file_name,label\na.png,cat\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "metadata.csv"]


def test_given_captions_are_rows_of_the_same_kind(tmp_path: Path) -> None:
    path = tmp_path / "given.jsonl"
    path.write_text('{"file_name": "./sub\\\\b.png", "caption": " a \\n cat "}\n')
    assert read_caption_file(path) == {"sub/b.png": "a cat"}
    path.write_text('{"file_name": "a.png", "caption": "x"}\n' * 2)
    with pytest.raises(ValueError, match=r"given\.jsonl, line 2 names a\.png again"):
        read_caption_file(path)
    path.write_text('{"file_name": "a.png"}')
    with pytest.raises(ValueError, match="no column 'caption' or 'text'"):
        read_caption_file(path)


@pytest.mark.parametrize("column", ["", "caption", "caption_", "blip", "caption_a/b", "caption_ä"])
def test_columns_that_hold_no_further_captions_are_refused(column: str) -> None:
    check_column("caption_blip-2.base")
    with pytest.raises(ValueError, match="--column must be caption_ and a name"):
        check_column(column)


@pytest.mark.parametrize("has_metadata", [True, False])
def test_a_caption_that_a_spreadsheet_would_compute_is_written_as_text(tmp_path, has_metadata):
    data = folder_of(tmp_path, "a.png")
    if has_metadata:
        (tmp_path / "metadata.csv").write_text("file_name\na.png\n")
    caption = "=HYPERLINK(0)"
    place = add_caption_column(data, BLIP, {"a.png": caption})
    with place.open(newline="") as file:
        assert list(csv.reader(file))[1][-1] == f" {caption}"
    assert found(data)["a.png"][1] == caption

# SPDX-License-Identifier: Apache-2.0
import json
import os
from pathlib import Path

import pytest

from pippin.data.folder.metadata import find_metadata, read_metadata

CSV = '\ufefffile_name,label,text\na.png,cat,"a cat, asleep"\nsub/b.png,,\n'
JSONL = (
    '{"file_name": "a.png", "label": "cat", "text": "a cat, asleep", "other": [1]}\n\n'
    '{"file_name": "sub/b.png", "label": null}\n'
)


@pytest.mark.parametrize(("name", "text"), [("metadata.csv", CSV), ("metadata.jsonl", JSONL)])
def test_both_formats_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    result = read_metadata(tmp_path / name)
    rows = [(row.file_name, row.label, row.captions.get("name")) for row in result.rows]
    assert rows == [("a.png", "cat", "a cat, asleep"), ("sub/b.png", None, None)]
    assert result.has_labels
    assert result.caption_kinds == ("name",)
    assert find_metadata(tmp_path, None) == tmp_path / name


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text('file_name,text\na.png,"two\nlines"\nb.png,one\n')
    assert [row.line for row in read_metadata(tmp_path / "m.csv").rows] == [3, 4]
    (tmp_path / "m.jsonl").write_text(JSONL)
    assert [row.line for row in read_metadata(tmp_path / "m.jsonl").rows] == [1, 3]


def test_a_number_is_a_label_and_caption_goes_before_text(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"file_name": "a.png", "label": 0, "text": "t", "caption": "c"}')
    (row,) = read_metadata(path).rows
    assert (row.label, row.captions) == ("0", {"name": "c"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "caption_blip,file_name,caption,caption_2\nan owl,a.png,owl,\n"),
        ("m.jsonl", '{"file_name": "a.png", "caption_2": null, "caption": "owl"'),
    ],
)
def test_further_columns_are_kinds_of_captions(tmp_path: Path, name: str, text: str) -> None:
    more = ', "caption_blip": "an owl "}' if name == "m.jsonl" else ""
    (tmp_path / name).write_text(text + more)
    result = read_metadata(tmp_path / name)
    assert result.caption_kinds[0] == "name"
    assert set(result.caption_kinds) == {"name", "caption_2", "caption_blip"}
    assert result.rows[0].captions == {"name": "owl", "caption_blip": "an owl"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "image,label\na,b\n", r"m\.csv has no column 'file_name'; it has: image, label"),
        ("m.csv", "", "no column 'file_name'; it has: no rows at all"),
        ("m.csv", "file_name\na.png,b\n", r"m\.csv, line 2: the first line has 1 cells"),
        ("m.csv", "file_name,label\na.png\n", "line 2: the first line has 2 cells"),
        ("m.csv", 'file_name\n"a.png', "not CSV: unexpected end"),
        ("m.csv", "file_name,label\n,b\n", "line 2: file_name is empty"),
        ("m.jsonl", '{"file_name": "a"}\nhello', "line 2: not JSON: Expecting value"),
        ("m.jsonl", "[1]", "line 1: each line must hold one JSON object"),
        (
            "m.jsonl",
            '{"file_name": "a", "label": [1]}',
            r"label must be text or a number; got \[1",
        ),
        ("m.jsonl", '{"file_name": "a", "label": true}', "must be text or a number; got True"),
        ("m.jsonl", '{"file_name": "a", "label": "\\ud800"}', "line 1: label is not Unicode text"),
        ("m.jsonl", '{"file_name": 3}', "file_name must be text; got 3"),
        ("m.jsonl", '{"file_name": "a", "text": 3}', "line 1: text must be text; got 3"),
        (
            "m.jsonl",
            '{"file_name": "a", "caption_score": 0.3}',
            "caption_score must be text, or the column another name; got 0.3",
        ),
        ("m.txt", "", r"must be a \.csv or \.jsonl file; got 'm\.txt'"),
    ],
)
def test_bad_files_are_refused_with_the_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_metadata(tmp_path / name)


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes("file_name\nä.png\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"m\.csv is not UTF-8 text \(line 2, byte 10"):
        read_metadata(tmp_path / "m.csv")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marks_of_an_encoding_are_read(tmp_path: Path, encoding: str) -> None:
    text = "file_name,caption\r\n\u00e4.png,one\u2028caption\r\n"
    (tmp_path / "m.csv").write_bytes(text.encode(encoding))
    (row,) = read_metadata(tmp_path / "m.csv").rows
    assert (row.file_name, row.captions) == ("\u00e4.png", {"name": "one caption"})


def test_which_file_counts(tmp_path: Path) -> None:
    assert find_metadata(tmp_path, None) is None
    with pytest.raises(ValueError, match=r"has no file 'x\.csv'"):
        find_metadata(tmp_path, "x.csv")
    for name in ("metadata.csv", "metadata.jsonl"):
        (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=r"--data\.metadata"):
        find_metadata(tmp_path, None)
    assert find_metadata(tmp_path, "metadata.csv") == tmp_path / "metadata.csv"


def test_metadata_in_parquet_is_not_passed_over(tmp_path: Path) -> None:
    """Its rows would be ignored silently, and folder names would be the classes."""
    (tmp_path / "metadata.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"metadata\.parquet is not read; convert it to metadata"):
        find_metadata(tmp_path, None)
    (tmp_path / "metadata.jsonl").write_text(JSONL)
    assert find_metadata(tmp_path, None) == tmp_path / "metadata.jsonl"


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("File_Name,LABEL,Caption", 'a.png,cat,"a cat, asleep"'),
        (" file_name , label , caption ", ' a.png , cat , "a cat, asleep"'),
        ('"file_name", "Label", TEXT', 'a.png, cat, "a cat, asleep"'),
        ("\ufefffile_name,\tlabel,text", 'a.png,cat,"a cat, asleep"'),
    ],
)
def test_names_of_columns_are_read_without_case_and_outer_space(
    tmp_path: Path, head: str, row: str
) -> None:
    (tmp_path / "m.csv").write_text(f"{head}\n{row}\n", encoding="utf-8")
    (result,) = read_metadata(tmp_path / "m.csv").rows
    assert (result.file_name, result.label) == ("a.png", "cat")
    assert result.captions == {"name": "a cat, asleep"}
    names = [name.strip().strip('"') for name in head.lstrip("\ufeff").split(",")]
    (tmp_path / "m.jsonl").write_text(
        json.dumps(dict(zip(names, ["a.png", "cat", "a cat, asleep"], strict=True)))
    )
    assert read_metadata(tmp_path / "m.jsonl").rows[0].captions == result.captions


def test_the_case_of_a_kind_of_captions_is_kept(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("file_name, Caption_BLIP \na.png,owl\n")
    assert read_metadata(tmp_path / "m.csv").caption_kinds == ("caption_BLIP",)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "file_name,caption,Caption\na.png,a,b\n"),
        ("m.jsonl", '{"file_name": "a.png"}\n{"file_name": "b.png", "Caption": 1, "caption": 2}'),
        ("m.csv", "file_name,caption_x,Caption_x\na.png,a,b\n"),
    ],
)
def test_two_columns_that_mean_the_same_are_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(
        ValueError, match=r"line [12]: the columns 'caption\w*' and 'Caption|both mean"
    ):
        read_metadata(tmp_path / name)


@pytest.mark.parametrize(
    ("head", "advice"),
    [
        ("filename,label", "rename 'filename' to file_name"),
        ("Image,label", "rename 'Image' to file_name"),
        ("file-name,label", "rename 'file-name' to file_name"),
        ("flie_name,label", "rename 'flie_name' to file_name"),
        ("file_name;label", "its delimiter is ';': save it with commas"),
        ("file_name\tlabel", r"its delimiter is '\\t': save it with commas"),
    ],
)
def test_what_is_near_to_file_name_is_suggested(tmp_path: Path, head: str, advice: str) -> None:
    (tmp_path / "m.csv").write_text(f"{head}\na,b\n".replace("a,b", "a,b" if "," in head else "a"))
    with pytest.raises(ValueError, match=advice):
        read_metadata(tmp_path / "m.csv")


def test_numbers_are_labels_by_their_value(tmp_path: Path) -> None:
    values = [0.0, 1.0, 10, 2.5, float("nan"), None, "3.0", " 4 "]
    lines = [json.dumps({"file_name": f"{n}.png", "label": v}) for n, v in enumerate(values)]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    labels = ["0", "1", "10", "2.5", None, None, "3", "4"]
    assert [row.label for row in read_metadata(tmp_path / "m.jsonl").rows] == labels
    rows = [f"{n}.png,{'' if v is None else v}" for n, v in enumerate(values)]
    (tmp_path / "m.csv").write_text("\n".join(["file_name,label", *rows]))
    assert [row.label for row in read_metadata(tmp_path / "m.csv").rows] == labels


def test_nan_is_a_class_among_names_that_are_no_numbers(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("file_name,label\na.png,nan\nb.png,roti\n")
    assert [row.label for row in read_metadata(tmp_path / "m.csv").rows] == ["nan", "roti"]


def test_a_caption_that_is_no_text_costs_its_row(tmp_path: Path) -> None:
    values = [
        {"en": "owl"},
        ["owl"],
        "{'en': 'owl'}",
        "a \ud800",
        float("nan"),
        "NaN",
        "\ufeffowl",
    ]
    lines = [json.dumps({"file_name": f"{n}.png", "text": v}) for n, v in enumerate(values)]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    rows = read_metadata(tmp_path / "m.jsonl").rows
    assert [bool(row.problem) for row in rows] == [True] * 4 + [False] * 3
    assert rows[0].problem == "line 1: text is a dictionary (with en), not text"
    assert [row.captions for row in rows[4:]] == [{}, {}, {"name": "owl"}]


def test_what_is_no_metadata_file_is_not_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metadata.csv")
    with pytest.raises(ValueError, match=r"metadata\.csv is a FIFO, not a metadata file"):
        find_metadata(tmp_path, None)

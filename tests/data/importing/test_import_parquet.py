# SPDX-License-Identifier: Apache-2.0
"""Columns of tables by their usual names and types; a bad cell affects one row."""

import pytest
from archives import image_bytes, rows_of

from pippin.config import ConfigError
from pippin.data.importing.config import ImportConfig
from pippin.data.importing.importer import import_images

datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
NUMBERS = range(5)
BYTES = [image_bytes(n) for n in NUMBERS]
CELLS = [{"bytes": content, "path": f"{n}.png"} for n, content in enumerate(BYTES)]


@pytest.fixture
def taken(tmp_path):
    """Import a table; returns the result and the rows of the metadata."""

    def run(columns, **settings):
        pq.write_table(pa.table(columns), tmp_path / "0.parquet")
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        result = import_images(ImportConfig(source=str(tmp_path / "0.parquet"), **settings), out)
        return result, rows_of(out)

    return run


@pytest.mark.parametrize("name", ["image", "IMG", " jpg ", "Photo"])
def test_names_are_compared_without_case_and_spaces(taken, name):
    result, rows = taken(
        {name: CELLS, " TEXT": ["one"] * 5, "Labels ": [2.0] * 5, "url": ["u"] * 5}
    )
    assert [(row["text"], row["label"]) for row in rows] == [("one", "2")] * 5
    assert dict(result.taken) == {
        "image": {name: 5},
        "text": {" TEXT": 5},
        "label": {"Labels ": 5},
    }
    assert result.unread == {"url": 5}


def test_the_image_itself_is_chosen_by_name_and_masks_come_last(taken, tmp_path):
    other = [{"bytes": image_bytes(30), "path": None}] * 5
    result, _ = taken({"depth": other, "mask": other, "view": CELLS})
    assert result.taken["image"] == {"view": 5}
    result, _ = taken({"conditioning_image": other, "view": other, "image": CELLS})
    assert result.taken["image"] == {"image": 5}
    assert result.unread == {"conditioning_image": 5, "view": 5}
    result, _ = taken({"depth": other, "image": CELLS}, image="Depth")
    assert result.taken["image"] == {"depth": 5}
    result, _ = taken({"depth": CELLS})
    assert result.taken["image"] == {"depth": 5}


@pytest.mark.parametrize("name", ["label", "labels", "fine_label", "breed"])
def test_declared_classes_have_names(tmp_path, name):
    features = datasets.Features(
        {"image": datasets.Image(), name: datasets.ClassLabel(names=["cat", "dog"])}
    )
    rows = {"image": CELLS, name: [0, 1, -1, None, 0]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "0.parquet")
    import_images(ImportConfig(source=str(tmp_path / "0.parquet")), tmp_path / "out")
    labels = [row.get("label") for row in rows_of(tmp_path / "out")]
    assert labels == ["cat", "dog", None, None, "cat"]


def test_a_caption_that_is_no_text_costs_its_row(taken):
    content = pa.array([b"caf\xe9" if n == 3 else b"good" for n in NUMBERS], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 5, content.buffers())
    result, rows = taken({"jpg": BYTES, "caption": text})
    (lost,) = result.skipped
    assert lost.startswith("0 3: caption is not UTF-8 text (line 1, byte 3")
    assert [row["file_name"] for row in rows] == [f"00000/000000{n}.png" for n in (0, 1, 2, 4)]


def test_cells_that_are_no_text_are_no_captions(taken):
    nan = float("nan")
    result, rows = taken(
        {"jpg": BYTES, "caption": [nan] * 5, "label": [1.0, nan, 10.0, 2.5, None]}
    )
    assert [row.get("label") for row in rows] == ["1", None, "10", "2.5", None]
    assert (result.captions, result.labels) == (0, 3)
    result, rows = taken({"jpg": BYTES, "caption": [{"en": "one", "de": "eins"}] * 5})
    assert result.captions == 0
    assert result.unread == {"caption (dictionary with en, de)": 5}
    result, rows = taken({"jpg": BYTES, "caption": [{"en": "one"}] * 5}, caption="caption.en")
    assert {row["text"] for row in rows} == {"one"}
    result, rows = taken({"jpg": BYTES, "caption": ['{"en": "one"}'] * 5}, caption="caption.en")
    assert {row["text"] for row in rows} == {"one"}
    with pytest.raises(ConfigError, match=r"has no column caption\.fr, .* it has: jpg, caption"):
        taken({"jpg": BYTES, "caption": ['{"en": "one"}'] * 5}, caption="caption.fr")
    result, rows = taken({"jpg": BYTES, "labels": [[1, 2]] * 5})
    assert result.labels == 0 and result.unread == {"labels (list)": 5}
    result, rows = taken({"jpg": BYTES, "labels": [[1, 2]] * 5, "class": ["a"] * 5})
    assert result.classes == {"a"}


def test_rows_without_an_image_say_what_they_hold(taken):
    cells = [*CELLS[:3], {"bytes": None, "path": "far.png"}, None]
    result, _ = taken({"image": cells})
    assert result.skipped == (
        "0 3: no image: the row names a file and does not hold it",
        "0 4: no image",
    )
    result, _ = taken({"images": [[cell, cell] for cell in CELLS]})
    assert result.images == 5
    assert result.unread == {"images (further images of a row)": 5}


def test_tables_of_urls_are_named(taken):
    with pytest.raises(ConfigError, match="holds URLs and no images: fetch them first"):
        taken({"URL": ["https://host/a.jpg"] * 5, "TEXT": ["one"] * 5})


@pytest.mark.parametrize("kept", [4, -1, -200, 0])
def test_a_file_without_its_footer_is_named(taken, tmp_path, kept):
    taken({"jpg": BYTES})
    place = tmp_path / "0.parquet"
    place.write_bytes(place.read_bytes()[:kept])
    with pytest.raises(ConfigError, match=r"0\.parquet cannot be read as parquet"):
        import_images(ImportConfig(source=str(place)), tmp_path / "other")

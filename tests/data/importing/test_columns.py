# SPDX-License-Identifier: Apache-2.0
"""The first shard determines the columns, and every other shard must have them."""

import pytest
from archives import archive, image_bytes, rows_of

from pippin.config import ConfigError
from pippin.data.importing.columns import Columns
from pippin.data.importing.config import ImportConfig
from pippin.data.importing.importer import import_images
from pippin.data.importing.shards import PARTS

datasets = pytest.importorskip("datasets")


def write_parquet(path, columns, names=("cat", "dog")):
    """Two rows with the given columns and images."""
    kinds = {
        "label": datasets.ClassLabel(names=list(names)),
        "caption": datasets.Value("string"),
        "prompt": datasets.Value("string"),
    }
    values = {"label": [0, 1], "caption": ["one", "two"], "prompt": ["other one", "other two"]}
    rows = {name: values[name] for name in columns}
    rows["image"] = [{"bytes": image_bytes(n), "path": None} for n in range(2)]
    features = {"image": datasets.Image()} | {name: kinds[name] for name in columns}
    table = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    table.to_parquet(path)


def test_the_first_shard_settles_the_columns_of_all(tmp_path):
    """Alone, the second shard's caption would be taken for the text. What the first one has not
    is taken where it appears."""
    source = tmp_path / "source"
    source.mkdir()
    write_parquet(source / "0.parquet", ["prompt"])
    write_parquet(source / "1.parquet", ["caption", "prompt", "label"])
    import_images(ImportConfig(source=str(source)), tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [row["text"] for row in rows] == ["other one", "other two"] * 2
    assert [row.get("label") for row in rows] == [None, None, "cat", "dog"]
    columns = Columns.load(tmp_path / "out" / PARTS / "columns.json")
    assert (columns.images, columns.texts) == (("image",), {"text": ("prompt",)})
    assert columns.label is None and columns.labels[:2] == ("label", "json.label")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_shard_that_lacks_a_column_is_named(tmp_path, processes):
    source = tmp_path / "source"
    source.mkdir()
    write_parquet(source / "0.parquet", ["caption", "label"])
    write_parquet(source / "1.parquet", ["prompt"])
    config = ImportConfig(source=str(source))
    expected = r"1\.parquet, \d+ bytes, has no column caption, label, .* it has: prompt, image"
    with pytest.raises(ConfigError, match=expected):
        import_images(config, tmp_path / "out", processes=processes)
    write_parquet(source / "1.parquet", ["label", "caption"])
    result = import_images(config, tmp_path / "out", processes=processes)
    assert result.images == 4


def test_other_class_names_are_refused(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    write_parquet(source / "0.parquet", ["label"])
    write_parquet(source / "1.parquet", ["label"], names=("dog", "cat"))
    with pytest.raises(ConfigError, match=r"1\.parquet.* dog, cat; the first shard has cat, dog"):
        import_images(ImportConfig(source=str(source)), tmp_path / "out")


def test_entries_of_a_json_may_be_rare_but_not_absent(tmp_path):
    """The library itself would keep only keys that one of an archive's first rows has."""
    source = tmp_path / "source"
    source.mkdir()
    plain = {"png": image_bytes(), "json": {"width": 24}}
    calls = {"png": image_bytes(), "json": {"width": 24, "alt": "seen"}}
    (source / "0.tar").write_bytes(archive([calls, plain]))
    (source / "1.tar").write_bytes(archive([plain] * 8 + [calls]))
    config = ImportConfig(source=str(source), caption="json.alt")
    import_images(config, tmp_path / "out")
    texts = [row.get("text") for row in rows_of(tmp_path / "out")]
    assert texts == ["seen", *[None] * 9, "seen"]

    (source / "2.tar").write_bytes(archive([plain] * 3))
    with pytest.raises(ConfigError, match=r"2\.tar, .* has no column json\.alt, which the first"):
        import_images(config, tmp_path / "out")
    assert not (tmp_path / "out/00002").exists()


def test_settings_may_be_mended_until_a_shard_is_there(tmp_path):
    write_parquet(tmp_path / "0.parquet", ["caption", "prompt"])
    source = str(tmp_path / "0.parquet")
    with pytest.raises(ConfigError, match="--caption captoin"):
        import_images(ImportConfig(source=source, caption="captoin"), tmp_path / "out")
    mended = ImportConfig(source=source, caption="prompt")
    import_images(mended, tmp_path / "out")
    assert rows_of(tmp_path / "out")[0]["text"] == "other one"
    with pytest.raises(ConfigError, match="with other settings"):
        import_images(ImportConfig(source=source, caption="caption"), tmp_path / "out")

# SPDX-License-Identifier: Apache-2.0
"""Import gives the same folder with any number of processes and after any interruption."""

import io
import json
import shutil
import tarfile

import pytest
from archives import files_of, image_bytes, rows_of

from pippin.cli.main import main
from pippin.config import ConfigError
from pippin.data.config import ImagesConfig
from pippin.data.folder.scan import scan
from pippin.data.importing import importer as importing
from pippin.data.importing.config import ImportConfig
from pippin.data.importing.importer import import_images

datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    """Three shards of two rows, with class names, captions, and one broken image."""
    folder = tmp_path_factory.mktemp("parquet")
    features = datasets.Features(
        image=datasets.Image(),
        label=datasets.ClassLabel(names=["cat", "dog"]),
        caption=datasets.Value("string"),
        long=datasets.Value("string"),
    )
    for shard in range(3):
        rows = {
            "image": [{"bytes": image_bytes(2 * shard + n), "path": None} for n in range(2)],
            "label": [0, 1],
            "caption": [f"image {2 * shard}", " two\nlines "],
            "long": ["a long one", ""],
        }
        if shard == 2:
            rows["image"][1] = {"bytes": b"no image at all", "path": None}
        table = datasets.Dataset.from_dict(rows, features=features)
        table.to_parquet(folder / f"part-{shard}.parquet")
    return folder


def test_parquet_becomes_a_custom_data_set(parquet, tmp_path):
    config = ImportConfig(source=str(parquet), more_captions=("long",))
    result = import_images(config, tmp_path / "out")
    assert (result.images, result.shards, result.before) == (5, 3, 0)
    (lost,) = result.skipped
    assert lost.startswith("2 1: not an image of a format that is read (PNG, JPEG,")
    rows = rows_of(tmp_path / "out")
    assert rows[0] == {
        "file_name": "00000/0000000.png",
        "text": "image 0",
        "caption_long": "a long one",
        "label": "cat",
    }
    assert rows[1]["text"] == "two lines" and "caption_long" not in rows[1]
    scanned_images = scan(
        ImagesConfig(path=str(tmp_path / "out"), index_folder=str(tmp_path / "i"))
    ).images
    assert [scanned.size.height for scanned in scanned_images] == [20, 21, 22, 23, 24]
    assert [scanned.label for scanned in scanned_images] == [0, 1, 0, 1, 0]


def test_two_processes_and_a_stop_give_the_same_files(parquet, tmp_path, monkeypatch):
    config = ImportConfig(source=str(parquet))
    import_images(config, tmp_path / "one")
    import_images(config, tmp_path / "two", processes=2)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")

    real = importing.import_shard

    def fails(shard, columns, folder):
        if shard.index == 1:
            (folder / "00001").mkdir()
            (folder / "00001/0000000.png").write_bytes(b"half a pic")
            raise OSError(28, "No space left on device")
        real(shard, columns, folder)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(importing, "import_shard", fails)
        import_images(config, tmp_path / "stopped")
    assert not (tmp_path / "stopped/metadata.jsonl").exists()
    with pytest.raises(ValueError, match="is an import that was stopped"):
        scan(ImagesConfig(path=str(tmp_path / "stopped"), index_folder=str(tmp_path / "i")))
    assert import_images(config, tmp_path / "stopped").before == 1
    assert files_of(tmp_path / "stopped") == files_of(tmp_path / "one")


def test_an_archive_cannot_choose_where_it_is_written(tmp_path, capsys):
    archive = tmp_path / "shards" / "00000.tar"
    archive.parent.mkdir()
    with tarfile.open(archive, "w") as tar:
        for key in ("0001", "../../outside"):
            for suffix, content in {
                "jpg": image_bytes(1, "JPEG"),
                "txt": f"caption of {key}".encode(),
                "json": json.dumps({"alt": "seen", "cls": 3}).encode(),
            }.items():
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    out = tmp_path / "deep" / "out"
    requests = ["--folder", str(out), "--more-captions", "json.alt"]
    assert main(["data", "import", str(archive.parent), *requests]) == 0
    messages = capsys.readouterr().out
    assert f"{out}: 2 images of 1 shards" in messages and "next: pippin data check" in messages
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "shards"]
    rows = rows_of(out)
    assert rows[1] == {
        "file_name": "00000/0000001.jpg",
        "text": "caption of ../../outside",
        "caption_alt": "seen",
        "label": "3",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"caption": "words"}, r"--caption words: .* has no such column; it has: image, label"),
        ({"image": "photo"}, "--image photo"),
        ({"more_captions": ("alt",)}, "--more-captions alt"),
    ],
)
def test_a_column_that_is_not_there_is_named(parquet, tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        import_images(ImportConfig(source=str(parquet), **change), tmp_path / "out")


def test_folders_that_hold_something_else_are_refused(parquet, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        import_images(ImportConfig(source=str(parquet)), full)
    import_images(ImportConfig(source=str(parquet), shards=1), tmp_path / "out")
    with pytest.raises(ConfigError, match="with other settings"):
        import_images(ImportConfig(source=str(parquet)), tmp_path / "out")
    with pytest.raises(ConfigError, match="a folder of image files needs no import"):
        import_images(ImportConfig(source=str(full)), tmp_path / "other")


def test_a_source_that_changed_since_is_refused(parquet, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(parquet, source)
    import_images(ImportConfig(source=str(source)), tmp_path / "out")
    shutil.copy(source / "part-0.parquet", source / "a-new-first-one.parquet")
    with pytest.raises(ConfigError, match=r"was part-0\.parquet.*is a-new-first-one\.parquet"):
        import_images(ImportConfig(source=str(source)), tmp_path / "out")


def test_several_captions_are_kinds_and_minus_one_is_no_class(tmp_path):
    features = datasets.Features(
        image=datasets.Image(),
        label=datasets.ClassLabel(names=["cat", "dog"]),
        caption=datasets.List(datasets.Value("string")),
    )
    row = {"bytes": image_bytes(0), "path": None}
    rows = {"image": [row, row], "label": [-1, 1], "caption": [["one", "two"], []]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "a.parquet")
    import_images(ImportConfig(source=str(tmp_path / "a.parquet")), tmp_path / "out")
    assert rows_of(tmp_path / "out") == [
        {"file_name": "00000/0000000.png", "text": "one", "caption_text_1": "two"},
        {"file_name": "00000/0000001.png", "label": "dog"},
    ]


def test_damage_is_named(tmp_path):
    with pytest.raises(ConfigError, match="say what to import"):
        ImportConfig(source=" ")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ConfigError, match=r"broken\.parquet cannot be read as parquet"):
        import_images(ImportConfig(source=str(tmp_path / "broken.parquet")), tmp_path / "out")

# SPDX-License-Identifier: Apache-2.0
"""Local files and hub data sets."""

import io

import fsspec
import pytest
from archives import captioned, image_bytes, rows_of

from pippin.cli.main import main
from pippin.config import ConfigError
from pippin.data.importing.config import ImportConfig
from pippin.data.importing.hub import HubShard
from pippin.data.importing.import_sources import find_shards
from pippin.data.importing.importer import import_images

datasets = pytest.importorskip("datasets")
huggingface_hub = pytest.importorskip("huggingface_hub")


def not_found():
    """Error of the hub's client for an unknown name."""
    error = huggingface_hub.errors.RepositoryNotFoundError
    return error.__new__(error)


HOME = "hf://datasets/some/images@0123abc"


def test_braces_name_files_here(tmp_path):
    for n in range(3):
        (tmp_path / f"s-{n}.tar").write_bytes(captioned(n, count=1))
    shards = find_shards(ImportConfig(source=f"{tmp_path}/s-{{0..2}}.tar", shards=2))
    assert [shard.identity.partition(",")[0] for shard in shards] == ["s-0.tar", "s-1.tar"]
    with pytest.raises(ConfigError, match=r"names .*s-3\.tar, which is not there"):
        find_shards(ImportConfig(source=f"{tmp_path}/s-{{2..3}}.tar"))


def test_braces_for_one_file_and_a_long_list_of_names_are_no_name_of_the_hub(tmp_path):
    (tmp_path / "s-00.tar").write_bytes(captioned(0))
    (shard,) = find_shards(ImportConfig(source=f"{tmp_path}/s-{{00..00}}.tar"))
    assert shard.place.endswith("s-00.tar")
    names = ",".join(f"s-{n:05d}" for n in range(1000))  # longer than a file's name may be
    with pytest.raises(ConfigError, match=r"s-00000\.tar, which is not there"):
        find_shards(ImportConfig(source=f"{tmp_path}/{{{names}}}.tar"))


def test_a_file_that_has_braces_in_its_name_is_itself(tmp_path):
    (tmp_path / "{0..2}[1].tar").write_bytes(captioned(0))
    source = str(tmp_path / "{0..2}[1].tar")
    assert import_images(ImportConfig(source=source), tmp_path / "out").images == 2


@pytest.fixture
def hub(monkeypatch):
    """Mock of the hub: a data set whose rows name image files."""
    files = {f"{HOME}/cat/0.png": image_bytes(0), f"zip://1.png::{HOME}/dog.zip": image_bytes(1)}
    opened, requests = [], []

    def rows():
        places = [*files, "/etc/hostname", "hf://datasets/other/private@1/2.png"]
        for number, place in enumerate(places):
            yield {"image": {"bytes": None, "path": place}, "label": number % 2}

    class Builder:
        def as_streaming_dataset(self, split):
            requests.append(split)
            kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
            return datasets.IterableDataset.from_generator(rows, features=datasets.Features(kinds))

    def load_dataset_builder(name, subset=None, **options):
        requests.append((name, options))
        return Builder()

    def open_file(place, mode):
        opened.append(place)
        return io.BytesIO(files[place])

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "load_dataset_builder", load_dataset_builder)
    monkeypatch.setattr(fsspec, "open", open_file)
    return opened, requests


def test_image_files_of_the_hub_are_read_and_no_others(hub, tmp_path):
    opened, requests = hub
    result = import_images(ImportConfig(source="some/images", revision="v1"), tmp_path / "out")
    why = "no image: the row names a file and does not hold it"
    assert result.skipped == (f"0 2: {why}", f"0 3: {why}")
    assert opened == [f"{HOME}/cat/0.png", f"zip://1.png::{HOME}/dog.zip"]
    assert [row["label"] for row in rows_of(tmp_path / "out")] == ["cat", "dog"]
    assert requests == [("some/images", {"revision": "v1"}), "train"] * (len(requests) // 2)


def test_a_image_file_that_cannot_be_read_stops_its_shard(hub, tmp_path, monkeypatch):
    """A network error must not skip an image."""

    def fails(place, mode):
        raise OSError("timed out")

    monkeypatch.setattr(fsspec, "open", fails)
    with pytest.raises(ConfigError, match=r"cat/0\.png cannot be read: timed out"):
        import_images(ImportConfig(source="some/images"), tmp_path / "out")
    assert not (tmp_path / "out/00000").exists()


@pytest.mark.parametrize(
    "place",
    [
        "hf://datasets/some/images-of-others@1/0.png",
        "hf://datasets/some/images@1/../../other/0.png",
        f"file:///etc/hostname::{HOME}/0.png",
        f"{HOME}/0.png::file:///etc/hostname",
    ],
)
def test_names_of_other_places_are_not_followed(place, monkeypatch):
    monkeypatch.setattr(fsspec, "open", pytest.fail)
    shard = HubShard(index=0, config=ImportConfig(source="some/images"))
    assert shard.content({"bytes": None, "path": place}) is None


def test_folders_of_images_need_no_import(tmp_path, capsys):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/0.png").write_bytes(image_bytes())
    (tmp_path / "metadata.parquet").write_bytes(b"what imagefolder may say of images")
    assert main(["data", "import", str(tmp_path), "--folder", str(tmp_path / "out")]) != 0
    messages = capsys.readouterr().err
    assert "a folder of image files needs no import: give it as --data.path" in messages


@pytest.mark.parametrize(
    "source", ["./nowhere", "/no/where", "no/where/", "a/b/c", "nowhere.tar", "no where", "*.tar"]
)
def test_a_path_that_is_not_there_is_no_name_of_the_hub(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", pytest.fail)
    with pytest.raises(
        ConfigError, match=r"there is no such file or folder|no local file matches"
    ):
        import_images(ImportConfig(source=source), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("no network"), r"there is no such .* hub .* cannot be asked for .*: no network"),
        (not_found(), "no such file or folder, and no hub data set of that name"),
    ],
)
def test_the_hub_is_asked_once(error, message, tmp_path, monkeypatch):
    requests = []

    def dataset_info(self, name, **options):
        requests.append((name, options["timeout"]))
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(datasets, "load_dataset_builder", pytest.fail)
    with pytest.raises(ConfigError, match=message):
        import_images(ImportConfig(source="some/shards"), tmp_path / "out")
    assert requests == [("some/shards", 10)]


@pytest.mark.parametrize("switch", ["PIPPIN_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_the_hub_is_not_asked(tmp_path, monkeypatch, switch):
    monkeypatch.setenv(switch, "1")
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", pytest.fail)
    monkeypatch.setattr(datasets, "load_dataset_builder", pytest.fail)
    remedy = f"`hf download --repo-type dataset some/shards --local-dir FOLDER`.*unset {switch}"
    with pytest.raises(ConfigError, match=f"{switch}=1.*{remedy}"):
        import_images(ImportConfig(source="some/shards"), tmp_path / "out")


def test_archives_of_the_hub_are_read_as_those_here(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.mkdir()
    for n in range(2):
        (source / f"train-{n}.tar").write_bytes(captioned(2 * n))
    build = datasets.load_dataset_builder
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_, **__: build(str(source)))
    config = ImportConfig(source="some/archives", revision="v1")
    assert [shard.identity for shard in find_shards(config)] == [
        f"some/archives v1 shard {n}" for n in range(2)
    ]
    import_images(config, tmp_path / "out")
    assert [row["text"] for row in rows_of(tmp_path / "out")] == [f"image {n}" for n in range(4)]
    with pytest.raises(ConfigError, match=r"--split test: .* it has: train"):
        find_shards(ImportConfig(source="some/archives", split="test"))


def write_notes(path, statuses):
    """Counts of img2dataset's statuses of an archive's URLs."""
    rows = {"url": ["https://host/a.jpg"] * len(statuses), "status": statuses}
    datasets.Dataset.from_dict(rows).to_parquet(path)


def test_the_folder_of_img2dataset(tmp_path, capsys):
    source = tmp_path / "source"
    source.mkdir()
    for n in range(2):
        (source / f"0000{n}.tar").write_bytes(captioned(2 * n))
        (source / f"0000{n}_stats.json").write_text("{}")
        write_notes(source / f"0000{n}.parquet", ["success", "failed_to_download", "success"])
    result = import_images(ImportConfig(source=str(source)), tmp_path / "out")
    assert (result.shards, result.images) == (2, 4)
    assert result.statuses == {"success": 4, "failed_to_download": 2}
    (source / "00001.parquet").write_bytes(b"PAR1")  # it holds no images
    result = import_images(ImportConfig(source=str(source)), tmp_path / "again")
    assert result.statuses["00001.parquet unreadable"] == 1
    assert main(["data", "import", f"{source}/*.tar", "--folder", str(tmp_path / "glob")]) == 0
    assert "4 images of 2 shards" in capsys.readouterr().out


def test_archives_and_other_parquet_files_are_two_sources(tmp_path):
    (tmp_path / "0.tar").write_bytes(captioned(0))
    write_notes(tmp_path / "all.parquet", ["success"])
    with pytest.raises(ConfigError, match=r"holds 1 tar and 1 parquet files: .*\*\.tar'"):
        find_shards(ImportConfig(source=str(tmp_path)))


def test_hidden_files_are_no_shards_and_suffixes_may_be_upper_case(tmp_path):
    for name in ("0.TAR", "._0.tar", ".cache/1.tar"):
        place = tmp_path / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(captioned(0))
    assert [shard.place for shard in find_shards(ImportConfig(source=str(tmp_path)))] == [
        str(tmp_path / "0.TAR")
    ]

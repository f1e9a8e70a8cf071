# SPDX-License-Identifier: Apache-2.0
"""Scan index, skipped images, and rejected sources."""

import errno
import importlib.util
import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pippin.control import CONTROL_FIELDS, LARGEST_SIDE, SMALLEST_SIDE
from pippin.data.config import ImagesConfig
from pippin.data.folder import scan as module
from pippin.data.folder.check import summarise
from pippin.data.folder.listing import InvalidSourceError
from pippin.data.folder.scan import check_skipped_share, scan
from pippin.data.sources.images import ImageFolderSource
from pippin.system.files import open_regular

ROOT = Path(__file__).parents[3]


@pytest.fixture
def config(tmp_path: Path) -> ImagesConfig:
    """Eighteen good images in two classes, one broken and one too small."""
    folder = tmp_path / "photos"
    for number in range(18):
        path = folder / ("cat", "dog")[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L" if number < 3 else "RGB", (30 + number, 20), number).save(path)
    (folder / "cat" / "broken.png").write_bytes(b"")
    Image.new("RGB", (1, 1)).save(folder / "dog" / "small.png")
    return ImagesConfig(path=str(folder), index_folder=str(tmp_path / "index"))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of files that a scan decodes."""
    names: list[str] = []
    inspect = module.inspect_image

    def noted(path: Path) -> object:
        names.append(path.name)
        return inspect(path)

    monkeypatch.setattr(module, "inspect_image", noted)
    return names


def test_lost_files_are_named_with_their_reason(config: ImagesConfig) -> None:
    result = scan(config)
    assert len(result.images) == 18
    assert [(image.name, image.reason) for image in result.skipped] == [
        ("cat/broken.png", "broken"),
        ("dog/small.png", "too small"),
    ]
    assert result.skipped_share == 0.1
    assert result.skip_counts() == {"broken": 1, "too small": 1}


def test_a_source_that_loses_too_much_is_refused(config: ImagesConfig) -> None:
    result = scan(config)
    with pytest.raises(InvalidSourceError) as refused:
        check_skipped_share(result, config)
    for part in ("2 of 20", "0.05", "1 broken, 1 too small", "cat/broken.png: broken", "--data."):
        assert part in str(refused.value)
    check_skipped_share(result, replace(config, max_lost_share=0.1))


def test_only_changed_files_are_read_again(config: ImagesConfig, read: list[str]) -> None:
    first = scan(config)
    assert len(read) == 20
    read.clear()
    assert scan(config) == first
    assert read == []
    Image.new("RGB", (50, 50)).save(Path(config.path) / "cat" / "00.png")
    again = scan(config)
    assert read == ["00.png"]
    assert again.images[0].size == (50, 50)


def test_a_change_of_the_same_length_is_seen(config: ImagesConfig, read: list[str]) -> None:
    scan(config)
    path = Path(config.path) / "dog" / "03.png"
    path.write_bytes(bytes(path.stat().st_size))
    os.utime(path, ns=(0, 1))
    assert ("dog/03.png", "broken") in [
        (image.name, image.reason) for image in scan(config).skipped
    ]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EIO, "Input/output error"), "system error"),
        (OSError(errno.EMFILE, "Too many open files"), "system error"),
        (OSError(errno.ESTALE, "Stale file handle"), "system error"),
        (PermissionError(errno.EACCES, "Permission denied"), "not permitted"),
        (MemoryError(), "system error"),
    ],
)
def test_what_may_pass_is_looked_at_again(
    config: ImagesConfig, read: list[str], error: Exception, reason: str, monkeypatch
) -> None:
    def failing(path: Path) -> io.BufferedReader:
        if path.name == "03.png":
            raise error
        return open_regular(path)

    with monkeypatch.context() as patch:
        patch.setattr("pippin.images.files.open_regular", failing)
        result = scan(config)
    assert ("dog/03.png", reason) in [(image.name, image.reason) for image in result.skipped]
    read.clear()
    assert len(scan(config).images) == 18
    assert read == ["03.png"]
    read.clear()
    assert len(scan(config).images) == 18
    assert read == []


def test_a_file_that_fails_after_it_was_decoded_is_lost_for_this_time(
    config: ImagesConfig, monkeypatch
) -> None:
    digest = module.file_digest

    def failing(path: Path) -> str:
        if path.name == "03.png":
            raise OSError(errno.EIO, "Input/output error")
        return digest(path)

    with monkeypatch.context() as patch:
        patch.setattr(module, "file_digest", failing)
        lost = {image.name: (image.reason, image.detail) for image in scan(config).skipped}
    assert lost["dog/03.png"] == ("system error", "Input/output error")
    assert len(scan(config).images) == 18


def test_a_fresh_scan_reads_everything(config: ImagesConfig, read: list[str]) -> None:
    scan(config)
    scan(config, fresh=True)
    assert len(read) == 40


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"version": 0}'])
def test_a_damaged_index_is_made_anew(
    config: ImagesConfig, read: list[str], content: bytes
) -> None:
    first = scan(config)
    (index,) = Path(config.index_folder).iterdir()
    index.write_bytes(content)
    assert scan(config) == first
    assert len(read) == 40


def test_where_nothing_can_be_remembered_all_goes_on(config: ImagesConfig, tmp_path: Path) -> None:
    (tmp_path / "index").write_text("a file where a folder is wanted")
    assert len(scan(config).images) == 18


def test_progress_reaches_the_end(config: ImagesConfig) -> None:
    calls: list[tuple[int, int]] = []
    scan(config, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 20) for done in range(1, 21)]


def test_a_summary_counts_what_is_there(config: ImagesConfig) -> None:
    config = replace(config, resolution=32)
    summary = summarise(scan(config), config)
    assert {name: sum(n.values()) for name, n in summary.classes.items()} == {"cat": 9, "dog": 9}
    assert sum(summary.splits.values()) == 18
    assert summary.shorter_side.smallest == summary.shorter_side.largest == 20
    assert (summary.aspect.smallest, summary.aspect.largest) == (1.5, 47 / 20)
    assert summary.rules == {"grey": 3}
    assert summary.repeated == 0
    assert "18 images have a shorter side below the resolution of 32" in summary.notes[-1]


def test_links_are_followed_but_not_in_circles(config: ImagesConfig, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.new("RGB", (20, 20)).save(elsewhere / "far.png")
    (Path(config.path) / "eel").symlink_to(elsewhere)
    (Path(config.path) / "cat" / "up").symlink_to(config.path)
    names = [image.name for image in scan(config).images]
    assert "eel/far.png" in names
    assert len(names) == 19


def write_metadata(config: ImagesConfig, labels: list[str]) -> ImagesConfig:
    """Good images with alternating labels."""
    names = sorted(f"{('cat', 'dog')[n % 2]}/{n:02}.png" for n in range(18))
    rows = [f"{name},{labels[n % len(labels)]}" for n, name in enumerate(names)]
    text = "\n".join(["file_name,label", *rows])
    (Path(config.path) / "metadata.csv").write_text(text)
    return replace(config, max_lost_share=0.5)


def test_labels_that_are_numbers_are_ordered_by_value(config: ImagesConfig) -> None:
    config = write_metadata(config, ["0.0", "1.0", "10.0", "2.0"])
    result = scan(config)
    assert result.class_names == ("0", "1", "2", "10")
    labels = {p.name: result.class_names[p.label] for p in result.images}
    assert [labels[name] for name in sorted(labels)][:5] == ["0", "1", "10", "2", "0"]


def test_what_ids_meant_to_earlier_versions_is_known_where_it_differs(
    config: ImagesConfig,
) -> None:
    result = scan(write_metadata(config, ["0.0", "1.0", "10.0", "2.0"]))
    assert result.earlier_class_names == ("0.0", "1.0", "10.0", "2.0")
    result = scan(write_metadata(config, ["-1", "0", "-10"]))
    assert result.earlier_class_names == ("0", "-1", "-10")
    result = scan(write_metadata(config, ["2.0", "2", "cat"]))
    assert result.class_names == ("2", "cat")
    assert result.earlier_class_names == ("2", "2.0", "cat")
    for labels in (["0", "1", "10", "2"], ["0.0", "1.0"], ["b", "a"], ["9", "10", "x"]):
        assert scan(write_metadata(config, labels)).earlier_class_names is None


def test_another_order_of_classes_is_another_source(config: ImagesConfig, monkeypatch) -> None:
    """Latents cached with old ids are not reused for new ids."""
    config = write_metadata(config, ["0.0", "1.0", "10.0", "2.0"])
    now = ImageFolderSource(config, "train")
    earlier = now.earlier_class_names
    monkeypatch.setattr(module, "sort_labels", lambda labels: [n[:-2] for n in earlier or ()])
    assert ImageFolderSource(config, "train").source_hash() != now.source_hash()


def test_sides_allowed_are_those_that_control_can_say() -> None:
    field = CONTROL_FIELDS["original_size"]
    assert (field.low, field.high) == (SMALLEST_SIDE, LARGEST_SIDE)


def test_the_documented_table_of_bad_images_is_what_happens() -> None:
    spec = importlib.util.spec_from_file_location("bad", ROOT / "scripts" / "unusual_images.py")
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = ROOT / "docs" / "reference" / "image-files.md"
    assert script.table() in page.read_text(encoding="utf-8")


def test_archives_are_named_where_images_are_missing(tmp_path):
    """A metadata file beside an archive that still contains its images."""
    (tmp_path / "images.zip").write_bytes(b"PK")
    (tmp_path / "metadata.csv").write_text("file_name\na.png\nb.png\n")
    config = ImagesConfig(path=str(tmp_path))
    with pytest.raises(InvalidSourceError, match=r"\.zip files are not opened: unpack them first"):
        check_skipped_share(scan(config), config)

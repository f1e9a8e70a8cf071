# SPDX-License-Identifier: Apache-2.0
"""Shards are imported atomically, and contain only images."""

import struct
import zlib
from pathlib import Path

import pytest
from archives import archive, captioned, files_of, image_bytes, rows_of

from pippin.config import ConfigError
from pippin.data.importing.config import ImportConfig
from pippin.data.importing.importer import import_images
from pippin.data.importing.shards import PARTS
from pippin.system.lock import FolderBusyError, folder_lock

pytest.importorskip("datasets")


def bomb():
    """A small PNG whose header claims 10^10 pixels."""
    size = struct.pack(">IIBBBBB", 10**5, 10**5, 8, 2, 0, 0, 0)
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in ((b"IHDR", size), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for n in range(2):
        (folder / f"{n}.tar").write_bytes(captioned(2 * n))
    return folder


def test_a_full_disk_leaves_no_half_image(source, tmp_path, monkeypatch):
    config, out = ImportConfig(source=str(source)), tmp_path / "out"
    write, written = Path.write_bytes, []

    def fills(path, content):
        if path.suffix == ".png":
            written.append(path)
            if len(written) == 4:  # the last of the second shard
                write(path, content[:20])
                raise OSError(28, "No space left on device")
        return write(path, content)

    with monkeypatch.context() as patch, pytest.raises(OSError, match=f"No space.*{out}"):
        patch.setattr(Path, "write_bytes", fills)
        import_images(config, out)
    image_names = {name for name in files_of(out) if name.endswith(".png")}
    assert image_names == {"00000/0000000.png", "00000/0000001.png"}
    import_images(config, out)
    assert [row["text"] for row in rows_of(out)] == [f"image {n}" for n in range(4)]


def test_what_a_killed_process_left_is_replaced(source, tmp_path):
    config, out = ImportConfig(source=str(source)), tmp_path / "out"
    import_images(config, out)
    whole = files_of(out)
    # Killed before the shard was said to be whole, and, in another place, while it was written.
    (out / PARTS / "00001.json").unlink()
    (out / "00001" / "0000007.png").write_bytes(image_bytes(7))
    (out / PARTS / "00001.writing").mkdir()
    (out / PARTS / "00001.writing" / "0000000.png").write_bytes(image_bytes()[:20])
    for place in (out / PARTS / ".00001.json.42.writing", out / ".metadata.jsonl.42.writing"):
        place.write_bytes(b"{")
    assert import_images(config, out).before == 1
    assert files_of(out) == whole


def test_two_imports_into_one_folder_are_refused(source, tmp_path):
    config, out = ImportConfig(source=str(source)), tmp_path / "out"
    import_images(config, out)
    with folder_lock(out / PARTS), pytest.raises(FolderBusyError, match="in use by another"):
        import_images(config, out)


def test_bombs_and_other_files_are_lost_by_name(tmp_path):
    samples = [image_bytes(), bomb(), b"", b"<svg/>", image_bytes(1)]
    (tmp_path / "0.tar").write_bytes(archive([{"png": content} for content in samples]))
    result = import_images(ImportConfig(source=str(tmp_path / "0.tar")), tmp_path / "out")
    large, *others = result.skipped
    assert large.startswith("0 1 (00001): enormous: it has too many pixels (Image size (1000000")
    assert [line.partition(" (PNG")[0] for line in others] == [
        "0 2 (00002): no image; it has png",
        "0 3 (00003): not an image of a format that is read",
    ]
    assert [row["file_name"] for row in rows_of(tmp_path / "out")] == [
        "00000/0000000.png",
        "00000/0000004.png",
    ]


def test_an_archive_that_is_cut_off_is_named(source, tmp_path):
    (source / "1.tar").write_bytes(captioned(2, count=9)[:15_000])  # inside the eighth image
    with pytest.raises(ConfigError, match=r"1\.tar, \d+ bytes, cannot be read to its end"):
        import_images(ImportConfig(source=str(source)), tmp_path / "out")
    assert not (tmp_path / "out/00001").exists()
    (source / "1.tar").write_bytes(captioned(2, count=9))
    assert import_images(ImportConfig(source=str(source)), tmp_path / "out").images == 11

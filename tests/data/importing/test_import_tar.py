# SPDX-License-Identifier: Apache-2.0
"""An archive is read to its closing blocks, or rejected with the offset of the fault."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections import Counter

import pytest
from archives import captioned, image_bytes, rows_of

from pippin.config import ConfigError
from pippin.data.importing.config import ImportConfig
from pippin.data.importing.importer import import_images
from pippin.data.importing.tar import DamagedArchiveError, peek, read_members

pytest.importorskip("datasets")
WHOLE = captioned(0, count=3)
LAST = WHOLE.index(b"00002.png")
"""Offset of the last sample: a multiple of 512."""


def members_of(content):
    return [member.name for member in read_members(io.BytesIO(content), Counter())]


def mended(content, place, byte):
    return content[:place] + bytes([byte]) + content[place + 1 :]


DAMAGED = {
    "without closing blocks": (WHOLE[:LAST], f"ends at byte {LAST}, without closing blocks"),
    "inside a header": (WHOLE[: LAST + 100], rf"header at byte {LAST} is damaged \(truncated"),
    "inside a member": (WHOLE[: LAST + 512 + 20], "unexpected end of data"),
    "a changed name": (mended(WHOLE, LAST + 3, 65), rf"byte {LAST} is damaged \(bad checksum"),
    "a hole": (WHOLE[:LAST] + bytes(512) + WHOLE[LAST + 512 :], "is damaged"),
    "space that was not filled": (WHOLE[:LAST] + bytes(40 << 20), "65536 empty blocks"),
    "no archive": (b"<html>not found</html>" * 40, "no archive of this format"),
    "nothing": (b"", "it is empty"),
}


@pytest.mark.parametrize("content, message", DAMAGED.values(), ids=DAMAGED)
def test_damage_is_an_error_with_its_place(content, message):
    with pytest.raises((DamagedArchiveError, tarfile.ReadError), match=message):
        members_of(content)
    with pytest.raises((DamagedArchiveError, tarfile.ReadError)):
        list(peek(io.BytesIO(content), ".json"))


@pytest.mark.parametrize("content, message", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_shard_is_named_and_leaves_nothing(tmp_path, content, message):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    (source / "0.tar").write_bytes(WHOLE)
    (source / "1.tar").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"1\.tar, \d+ bytes, cannot be read.*{message}"):
        import_images(ImportConfig(source=str(source)), out)
    assert not (out / "00001").exists() and not (out / "metadata.jsonl").exists()
    (source / "1.tar").write_bytes(captioned(3))
    result = import_images(ImportConfig(source=str(source)), out)
    assert (result.before, result.images) == (1, 5)


def test_archives_that_were_joined_are_read_to_the_end_of_the_last():
    names = members_of(WHOLE)
    assert len(names) == 6
    assert members_of(WHOLE + WHOLE) == names * 2
    bare = WHOLE.rstrip(b"\0")
    padded = bare + bytes(-len(bare) % 512)
    assert members_of(padded + bytes(512)) == names  # one closing block, as some tools write
    assert members_of(bytes(10_240)) == []


def test_links_inside_an_archive():
    content, others = io.BytesIO(), Counter()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, kind, target in (
            ("a.png", tarfile.REGTYPE, ""),
            ("b.png", tarfile.LNKTYPE, "a.png"),
            ("c.png", tarfile.SYMTYPE, "/etc/passwd"),
            ("folder", tarfile.DIRTYPE, ""),
            ("pipe.png", tarfile.FIFOTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            data = image_bytes() if kind == tarfile.REGTYPE else b""
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    first, second = read_members(io.BytesIO(content.getvalue()), others)
    assert (first.name, second.name) == ("a.png", "b.png")
    assert first.start == second.start
    assert others == {"links and special files": 2}


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("0.tar.gz", gzip.compress),
        ("0.TGZ", gzip.compress),
        ("0.tar", gzip.compress),
        ("0.tar.bz2", bz2.compress),
        ("0.tar.xz", lzma.compress),
    ],
)
def test_compressed_archives_are_read_to_their_checksum(tmp_path, name, compress):
    whole = compress(WHOLE)
    place, config = tmp_path / name, ImportConfig(source=str(tmp_path / name))
    for end in (len(whole) // 2, len(whole) - 6):
        place.write_bytes(whole[:end])
        with pytest.raises(ConfigError, match=rf"{name}.* cannot be read"):
            import_images(config, tmp_path / "out")
    assert not (tmp_path / "out/00000").exists()
    place.write_bytes(whole)
    import_images(config, tmp_path / "out")
    assert [row["text"] for row in rows_of(tmp_path / "out")] == [f"image {n}" for n in range(3)]
    kept = [path.name for path in (tmp_path / "out/.parts").iterdir()]
    assert sorted(kept) == [".lock", "00000.json", "columns.json", "import.json"]

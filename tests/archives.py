# SPDX-License-Identifier: Apache-2.0
"""Parquet files and WebDataset archives of small images."""

import io
import json
import tarfile

from PIL import Image


def image_bytes(number=0, kind="PNG"):
    """Bytes of an image that is ``20 + number`` pixels high."""
    content = io.BytesIO()
    Image.new("RGB", (24, 20 + number), (40 * number % 256, 0, 255)).save(content, kind)
    return content.getvalue()


def archive_of(members):
    """Tar archive of (name, content); dictionaries become JSON."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, value in members:
            data = json.dumps(value).encode() if isinstance(value, dict) else value
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


def archive(samples):
    """WebDataset archive of ``{suffix: content}``; dictionaries become JSON."""
    return archive_of(
        (f"{number:05d}.{suffix}", value)
        for number, sample in enumerate(samples)
        for suffix, value in sample.items()
    )


def captioned(first, count=2):
    """Archive of images with captions that identify them."""
    numbers = range(first, first + count)
    return archive([{"png": image_bytes(n), "txt": f"image {n}".encode()} for n in numbers])


def rows_of(folder):
    """Rows of an import's metadata."""
    lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def files_of(folder):
    """Name -> bytes of all files below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }

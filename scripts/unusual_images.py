# SPDX-License-Identifier: Apache-2.0
"""Print how unusual image files of a custom data set are handled, as a markdown table.

    python scripts/unusual_images.py

Each case creates a folder, scans it as `pippin data check` does, and prints the result.
The table in docs/reference/image-files.md is this output; a test compares them.
"""

import os
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from pippin.data.config import ImagesConfig
from pippin.data.folder.scan import scan

Make = Callable[[Path], str]
"""Creates a case in a folder and returns its file name."""


def saved(
    name: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: object
) -> Make:
    """A plain image, 40 wide and 30 high."""

    def make(folder: Path) -> str:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size).save(path, **options)  # type: ignore[arg-type]
        return name

    return make


def written(name: str | bytes, content: bytes) -> Make:
    """A file with given bytes."""

    def make(folder: Path) -> str:
        path = Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(name))))
        path.write_bytes(content)
        return os.fsencode(name).decode("utf-8", "backslashreplace")

    return make


def cut(name: str) -> Make:
    """The first half of a file of noise."""

    def make(folder: Path) -> str:
        noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        return name

    return make


def turned(folder: Path) -> str:
    """A JPEG with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved("turned.jpg", exif=exif)(folder)


def several(name: str) -> Make:
    """A file of two different frames."""
    return saved(name, save_all=True, append_images=[Image.new("RGB", (40, 30), "red")])


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG file from its parts, which Pillow does not write; with more chunks."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = (*more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(pixels)


def beside(other: str, make: Make) -> Make:
    """A case next to a valid image."""

    def both(folder: Path) -> str:
        saved(other)(folder)
        return make(folder)

    return both


def linked(folder: Path) -> str:
    """A dangling link."""
    (folder / "link.png").symlink_to(folder / "gone")
    return "link.png"


def fifo(folder: Path) -> str:
    """A named pipe: reading it waits for a writer."""
    os.mkfifo(folder / "fifo.png")
    return "fifo.png"


def linked_class(folder: Path) -> str:
    """A class folder with a link to another one."""
    saved("cats/b.png")(folder)
    saved("dogs/c.png")(folder)
    (folder / "cats" / "see-dogs").symlink_to("../dogs")
    return "cats/see-dogs"


def same_names(folder: Path) -> str:
    """One name composed, the other decomposed."""
    saved("cafe\u0301.png")(folder)
    return saved("caf\u00e9.png")(folder)


def captioned(content: bytes) -> Make:
    """An image and its caption file."""

    def make(folder: Path) -> str:
        written("a.txt", content)(folder)
        return saved("a.png")(folder)

    return make


def metadata(text: str, *names: str, file: str = "metadata.csv", about: str = "") -> Make:
    """Images and a metadata file."""

    def make(folder: Path) -> str:
        for name in names:
            saved(name)(folder)
        (folder / file).write_text(text, encoding="utf-8")
        return about

    return make


def two_metadata_files(folder: Path) -> str:
    """Two metadata files, an ambiguous case."""
    (folder / "metadata.jsonl").write_text("{}")
    return metadata("file_name\n")(folder)


DEEP_ROWS = (b"\0" + b"\x80\x01" * 60) * 20
DEEP = png(20, 20, 16, 2, DEEP_ROWS)
DEEP_KEY = png(20, 20, 16, 2, DEEP_ROWS, chunk(b"tRNS", b"\x80\x01" * 3))
LONG_TEXT = chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(2**21)))
CASES: dict[str, Make] = {
    "JPEG, PNG or WebP in RGB": saved("a.jpg"),
    "BMP": saved("a.bmp"),
    "grey": saved("a.png", "L"),
    "grey with transparency": saved("a.png", "LA"),
    "black and white, 1 bit": saved("a.png", "1"),
    "RGBA": saved("a.png", "RGBA"),
    "palette": saved("a.png", "P"),
    "palette with a transparent colour": saved("a.png", "P", transparency=0),
    "CMYK JPEG": saved("a.jpg", "CMYK"),
    "turned by EXIF": turned,
    "animated GIF": several("a.gif"),
    "animated WebP": several("a.webp"),
    "TIFF of two pages": several("a.tiff"),
    "PNG with 16 bits of colour": written("a.png", DEEP),
    "PNG with 16 bits of colour, one of them transparent": written("a.png", DEEP_KEY),
    "PNG with a text of 2 MB": written("a.png", png(20, 20, 16, 2, DEEP_ROWS, LONG_TEXT)),
    "PNG with garbage as EXIF": saved("a.png", exif=b"garbage"),
    "PNG with 16 bits of grey": saved("a.png", "I;16"),
    "TIFF of floating-point numbers": saved("a.tif", "F"),
    "JPEG named .png": saved("a.png", format="JPEG"),
    "PostScript named .png": written("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n"),
    "JPEG cut in the middle": cut("a.jpg"),
    "PNG cut in the middle": cut("a.png"),
    "empty file": written("a.jpg", b""),
    "text named .jpg": written("a.jpg", b"hello"),
    "1 x 1 pixel": saved("a.png", size=(1, 1)),
    "shorter side of 15 pixels": saved("a.png", size=(200, 15)),
    "longer side of 8193 pixels": saved("a.png", size=(8193, 16)),
    "400 megapixels": written("a.png", png(20_000, 20_000, 8, 2, b"")),
    "HEIC, AVIF, SVG, raw": written("a.heic", b""),
    "name that is not UTF-8": written(b"\xff.png", b""),
    "link to nothing": linked,
    "link to a folder that is counted": linked_class,
    "FIFO, socket or device": beside("b.png", fifo),
    "folder of the system or of network storage": beside("b.png", saved("@eaDir/a.png")),
    "two names that differ in Unicode's form": same_names,
    "text file beside no image": beside("b.png", written("a.txt", b"")),
    "caption's file that is not UTF-8": captioned(b"\xff"),
    "hidden file": beside("b.png", saved(".a.png")),
    "image beside class folders": beside("cats/b.png", saved("a.png")),
    "metadata: file that is not there": metadata("file_name\na.png\n", about="a.png"),
    "metadata: empty label": metadata("file_name,label\na.png,\n", "a.png", about="a.png"),
    "metadata: empty caption": metadata("file_name,text\na.png,\n", "a.png", about="a.png"),
    "metadata: caption is a dictionary": metadata(
        '{"file_name": "a.png", "text": {"en": "owl"}}',
        "a.png",
        file="metadata.jsonl",
        about="a.png",
    ),
    "metadata: file named twice": metadata("file_name\na.png\na.png\n", "a.png", about="a.png"),
    "metadata: image without a row": metadata(
        "file_name\nb.png\n", "a.png", "b.png", about="a.png"
    ),
    "metadata: file outside the folder": metadata("file_name\n../a.png\n", about="../a.png"),
    "metadata: no column file_name": metadata("image,label\na.png,1\n", "a.png"),
    "metadata: column filename": metadata("filename,label\na.png,1\n", "a.png"),
    "metadata: columns caption and Caption": metadata("file_name,caption,Caption\na.png,a,b\n"),
    "metadata: no JSON": metadata("hello", file="metadata.jsonl"),
    "metadata: label is a list": metadata(
        '{"file_name": "a.png", "label": [1]}', file="metadata.jsonl"
    ),
    "metadata: too many cells": metadata("file_name\na.png,1\n"),
    "both metadata.csv and metadata.jsonl": two_metadata_files,
    "empty folder": lambda folder: "",
}


def observe(folder: Path, name: str) -> str:
    """Result of a scan for one file, or its error."""
    config = ImagesConfig(path=str(folder), index_folder=str(folder / ".index"))
    try:
        result = scan(config)
    except ValueError as error:
        return f"error: {str(error).replace(str(folder), 'FOLDER')}"
    excluded = [f"excluded: {image.reason}" for image in result.skipped if image.name == name]
    used = [image for image in result.images if image.name == name]
    texts = [
        f"used, {image.size.height} x {image.size.width}"
        + "".join(f", {rule}" for rule in image.rules)
        for image in used
    ]
    skipped = [
        f"skipped: {entry.reason}"
        for entry in result.facts.skipped
        if entry.name == name or name.startswith(f"{entry.name}/")
    ]
    return "; ".join([*texts, *excluded, *skipped]) or "ignored"


def rows() -> Iterator[tuple[str, str]]:
    """Titles and results of all cases."""
    for title, make in CASES.items():
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "images"
            folder.mkdir()
            yield title, observe(folder, make(folder))


def table() -> str:
    """The table in Markdown."""
    lines = ["| what is given | what happens |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {title} | {seen} |" for title, seen in rows())]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())

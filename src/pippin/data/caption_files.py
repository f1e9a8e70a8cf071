# SPDX-License-Identifier: Apache-2.0
"""Caption files beside images: ``a.txt`` or ``a.caption`` beside ``a.png``.

This is the layout of kohya's trainers and of img2dataset. It applies without a metadata file.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from pippin.data.cleaning import NotTextError, clean_caption
from pippin.system.regular_files import open_regular
from pippin.system.threads import map_in_threads

SUFFIXES = (".txt", ".caption")
"""Suffixes of caption files, the preferred one first."""
MAX_BYTES = 65_536
"""Maximum size of a caption file."""


class UnreadableCaptionError(ValueError):
    """Invalid caption file; the message gives the reason."""


def read_caption(path: Path) -> str:
    """Read a caption file as one line; empty if it has no text.

    Raises:
        UnreadableCaptionError: too long, not UTF-8 text, not a regular file, or not readable.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableCaptionError(
            f"{path.name} cannot be read: {error.strerror or error}"
        ) from error
    if len(content) > MAX_BYTES:
        raise UnreadableCaptionError(
            f"{path.name} beside it has more than {MAX_BYTES} bytes, the maximum of a caption "
            "file; shorten or rename it"
        )
    try:
        return clean_caption(content) or ""
    except NotTextError as error:
        raise UnreadableCaptionError(
            f"{path.name} beside it {error}; it must be plain text"
        ) from error


def beside(names: Iterable[str], texts: Mapping[str, Path]) -> dict[str, Path]:
    """Path of the caption file of each image that has one.

    Args:
        names: names of images.
        texts: name -> path, of files with one of ``SUFFIXES``.
    """
    paths = {}
    for name in names:
        stem = os.path.splitext(name)[0]
        path = next((texts[stem + end] for end in SUFFIXES if stem + end in texts), None)
        if path is not None:
            paths[name] = path
    return paths


def read_captions(paths: Mapping[str, Path]) -> dict[str, str | UnreadableCaptionError]:
    """Caption of each image, or the error of an unreadable file."""
    captions = map_in_threads(_caption_or_error, paths.values(), os.cpu_count() or 1)
    return dict(zip(paths, captions, strict=True))


def _caption_or_error(path: Path) -> str | UnreadableCaptionError:
    try:
        return read_caption(path)
    except UnreadableCaptionError as error:
        return error

# SPDX-License-Identifier: Apache-2.0
"""Captions in files beside pictures: ``a.txt`` or ``a.caption`` beside ``a.png``.

The layout of kohya's trainers and of img2dataset. It counts where there is no metadata file.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from pippin.data.cleaning import NotTextError, clean_caption
from pippin.system.regular import open_regular
from pippin.system.threads import map_in_threads

SUFFIXES = (".txt", ".caption")
"""Of two files of one name the first one counts."""
LARGEST = 65_536
"""Bytes; no caption is longer."""


class UnreadableCaptionError(ValueError):
    """A file beside a picture that is no caption; says why."""


def read_caption(path: Path) -> str:
    """A file's text in one line; empty where it has none.

    Raises:
        UnreadableCaptionError: too long, no text in UTF-8, no regular file, or the system does
            not let it be read.
    """
    try:
        with open_regular(path) as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise UnreadableCaptionError(
            f"{path.name} cannot be read: {error.strerror or error}"
        ) from error
    if len(content) > LARGEST:
        raise UnreadableCaptionError(
            f"{path.name} beside it has more than {LARGEST} bytes: no caption is so long; shorten "
            "or rename it"
        )
    try:
        return clean_caption(content) or ""
    except NotTextError as error:
        raise UnreadableCaptionError(
            f"{path.name} beside it {error}; it must be plain text"
        ) from error


def beside(names: Iterable[str], texts: Mapping[str, Path]) -> dict[str, Path]:
    """The caption's file of each picture that has one of its name.

    Args:
        names: of pictures.
        texts: name of a file with one of ``SUFFIXES`` -> path.
    """
    found = {}
    for name in names:
        stem = os.path.splitext(name)[0]
        path = next((texts[stem + end] for end in SUFFIXES if stem + end in texts), None)
        if path is not None:
            found[name] = path
    return found


def read_captions(paths: Mapping[str, Path]) -> dict[str, str | UnreadableCaptionError]:
    """The caption of each picture; of what cannot be read, why."""
    read = map_in_threads(_tried, paths.values(), os.cpu_count() or 1)
    return dict(zip(paths, read, strict=True))


def _tried(path: Path) -> str | UnreadableCaptionError:
    try:
        return read_caption(path)
    except UnreadableCaptionError as error:
        return error

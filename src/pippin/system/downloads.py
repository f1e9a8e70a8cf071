# SPDX-License-Identifier: Apache-2.0
"""Download of a single published file, resumed after a stop and verified by its sha256; disk space
and sizes for downloads."""

import os
import shutil
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from pippin.system.files import file_digest, make_folder

PARTIAL = ".partial"
"""Suffix of a download that is not complete."""
CHUNK = 1 << 20
TIMEOUT = 60.0
"""Seconds without an answer after which a connection counts as lost."""


def download_file(url: str, path: Path, sha256: str) -> None:
    """Download a file; an earlier part of it, ``PATH.partial``, is continued.

    Args:
        url: address of the file, http or https.
        path: new file; it appears when it is complete and verified.
        sha256: its digest, or the first digits of it.

    Raises:
        ValueError: no connection, an answer with an error status, or another content.
        OSError: disk full or not writable; the part stays.
    """
    partial = path.with_name(path.name + PARTIAL)
    make_folder(path.parent)
    try:
        _continue(url, partial)
    except HTTPError as error:
        raise ValueError(
            f"{url} could not be fetched: status {error.code}; fetch it elsewhere and copy it to "
            f"{path}"
        ) from error
    except (URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise ValueError(
            f"{url} could not be fetched: no connection ({reason}); run this on a machine with "
            f"network access; the part in {partial} is continued"
        ) from error
    digest = file_digest(partial)
    if not digest.startswith(sha256):
        partial.unlink()
        raise ValueError(
            f"{url} was fetched and has the sha256 {digest}, not {sha256}: it was removed; type "
            f"the command again, or copy the published file to {path}"
        )
    partial.replace(path)


def _continue(url: str, partial: Path) -> None:
    """Append the rest of a file; start over where the server sends all of it."""
    begun = partial.stat().st_size if partial.exists() else 0
    request = Request(url, headers={"Range": f"bytes={begun}-"} if begun else {})
    try:
        answer = urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416:  # nothing is left to send
            return
        raise
    with answer, partial.open("ab" if answer.status == 206 else "wb") as file:
        shutil.copyfileobj(answer, file, CHUNK)
        file.flush()
        os.fsync(file.fileno())
        if answer.length:  # bytes of the answer that did not come
            raise ConnectionError(f"closed {answer.length} bytes before the end")


def check_space(
    folder: Path,
    num_bytes: int,
    advice: str = "free some, or choose another folder with --to FOLDER",
) -> None:
    """Refuse a download that does not fit on the disk.

    Args:
        folder: where it goes; it may not exist.
        num_bytes: size of what is missing.
        advice: what to type.

    Raises:
        ValueError: the message has both sizes.
    """
    place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    if free < num_bytes:
        raise ValueError(
            f"not enough space in {folder}: {size_text(num_bytes)} are missing and "
            f"{size_text(free)} are free; {advice}"
        )


def size_text(num_bytes: int) -> str:
    """``1.7 GB``, ``335 MB`` or ``2 kB``, by powers of a thousand."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.3g} {unit}"
    return f"{num_bytes / 1e3:.3g} kB"

# SPDX-License-Identifier: Apache-2.0
"""Add a column of captions to a custom data set, by a captioning model or from a file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor

from pippin.data.config import ImagesConfig
from pippin.data.folder.caption_column import add_caption_column, read_caption_file
from pippin.data.folder.listing import Entry, list_images
from pippin.data.folder.metadata_columns import MAIN
from pippin.images.files import UnreadableImageError, read_image
from pippin.system.lines import append_lines, read_lines
from pippin.system.lock import folder_lock
from pippin.system.progress import ProgressCallback


@runtime_checkable
class Captioner(Protocol):
    """Interface of a captioning model."""

    num_truncated: int
    """Number of captions so far that reached the limit of new tokens."""

    def generate_captions(self, images: list[UInt8[Tensor, "3 _ _"]]) -> list[str]:
        """A caption of each image."""
        ...


@dataclass(frozen=True, kw_only=True)
class RecaptionResult:
    """Result of recaptioning."""

    path: Path
    """The metadata file."""
    written: int
    kept: int
    """Images that had a caption in this column before, or that keep their main one."""
    empty: int
    """Images without a caption now, apart from unreadable ones."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Unreadable image -> reason."""
    unknown: tuple[str, ...] = ()
    """Names in the given file that the folder does not have."""
    num_truncated: int = 0
    """Captions that the model had not finished at its limit of new tokens."""


def merge_captions(data: ImagesConfig, column: str, path: Path) -> RecaptionResult:
    """Write captions of a given file into a column.

    Raises:
        ValueError: nothing in the file is of this folder; or see
            :func:`pippin.data.folder.caption_column.read_caption_file` and ``add_caption_column``.
        FolderBusyError: another process writes captions there.
    """
    entries = _entries(data)
    captions = read_caption_file(path)
    names = {entry.name for entry in entries}
    unknown = tuple(name for name in captions if name not in names)
    if len(unknown) == len(captions):
        first = f", such as {unknown[0]}" if unknown else ""
        raise ValueError(
            f"{path} names no image of {data.path}: file_name must be relative to the folder; "
            f"it has {len(captions)} names{first}"
        )
    with folder_lock(Path(data.path)):
        return _write_column(data, column, entries, captions, unknown=unknown)


def write_captions(
    data: ImagesConfig,
    column: str,
    captioner: Callable[[], Captioner],
    *,
    fingerprint: str,
    batch_size: int,
    progress: ProgressCallback,
    keep_main: bool = False,
) -> RecaptionResult:
    """Describe every image that has no caption in the column.

    Captions are appended to a hidden file of the folder, and the metadata file is written at the
    end; after a kill the same call resumes.

    Args:
        data: the folder and its metadata file.
        column: a column that :func:`pippin.data.folder.metadata_columns.check_column` allows.
        captioner: builds the captioning model; called only where captions are missing.
        fingerprint: fingerprint of the captioner: the hidden file of another one is not read.
        batch_size: images per batch.
        progress: called after each batch.
        keep_main: leave out images with a main caption, which training reads for an empty cell.

    Raises:
        ValueError, OSError: see :func:`pippin.data.folder.caption_column.add_caption_column`.
        FolderBusyError: another process writes captions there.
    """
    folder = Path(data.path)
    entries = _entries(data)
    with folder_lock(folder):
        journal = folder / f".{column}-{fingerprint}.jsonl"
        captions = _read_journal(journal)
        lacking = lacking_captions(entries, column, keep_main=keep_main)
        pending = [entry for entry in lacking if entry.name not in captions]
        unread: dict[str, str] = {}
        model = captioner() if pending else None
        for start in range(0, len(pending), batch_size):
            images = _read_images(pending[start : start + batch_size], unread)
            assert model is not None
            batch = dict(zip(images, model.generate_captions(list(images.values())), strict=True))
            append_lines(journal, ({"file_name": n, "caption": c} for n, c in batch.items()))
            captions |= batch
            progress(min(start + batch_size, len(pending)), len(pending))
        result = _write_column(data, column, entries, captions, unread=unread, keep_main=keep_main)
        journal.unlink(missing_ok=True)
    return result if model is None else replace(result, num_truncated=model.num_truncated)


def lacking_captions(
    entries: Sequence[Entry], column: str, *, keep_main: bool = False
) -> list[Entry]:
    """Images without a caption in a column; with ``keep_main`` only those without a main one."""
    kinds = (column, MAIN) if keep_main else (column,)
    return [entry for entry in entries if not any(map(entry.captions.get, kinds))]


def _entries(data: ImagesConfig) -> list[Entry]:
    """The images; refused where a new metadata file would turn names of splits into classes."""
    listing = list_images(data)
    listing.check_layout(data.path)
    return listing.entries


def _read_journal(journal: Path) -> dict[str, str]:
    """Captions of an earlier call; a torn line is skipped, and its image described again."""
    lines = read_lines(journal).objects.values()
    return {str(line["file_name"]): str(line["caption"]) for line in lines}


def _read_images(
    entries: list[Entry], unread: dict[str, str]
) -> dict[str, UInt8[Tensor, "3 _ _"]]:
    """Pixels by name; unreadable images are added to ``unread``."""
    images = {}
    for entry in entries:
        try:
            images[entry.name] = read_image(entry.path)
        except UnreadableImageError as error:
            unread[entry.name] = error.detail
    return images


def _write_column(
    data: ImagesConfig,
    column: str,
    entries: list[Entry],
    captions: Mapping[str, str],
    unread: Mapping[str, str] | None = None,
    unknown: tuple[str, ...] = (),
    keep_main: bool = False,
) -> RecaptionResult:
    """Write the column, and count captions."""
    unread = unread or {}
    lacking = [entry.name for entry in lacking_captions(entries, column, keep_main=keep_main)]
    written = sum(bool(captions.get(name)) for name in lacking)
    if not written and len(lacking) == len(entries):  # create no file without captions
        first = "".join(f", such as {name}: {reason}" for name, reason in [*unread.items()][:1])
        raise ValueError(
            f"no image of {data.path} gets a caption; {len(unread)} cannot be read{first}"
        )
    return RecaptionResult(
        path=add_caption_column(data, column, captions),
        written=written,
        kept=len(entries) - len(lacking),
        empty=len(lacking) - written - len(unread),
        unread=unread,
        unknown=unknown,
    )

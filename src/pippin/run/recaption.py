# SPDX-License-Identifier: Apache-2.0
"""A further column of captions for own pictures, by a captioning model or from a file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor

from pippin.conditioning.config import TextSemantic
from pippin.data.config import ImagesConfig
from pippin.data.listing import Entry, list_pictures
from pippin.data.recaption import given_captions, set_column
from pippin.encoders.text import TextEncoder, minilm_installed
from pippin.image_files import UnreadableImageError, read_image
from pippin.recipes.table import get_recipe
from pippin.system.lines import append_lines, read_lines
from pippin.system.lock import folder_lock

TEXT_RECIPE = "folder/mmdit-disentangled-text"
"""The recipe that reads captions of a folder, by whose length they are counted."""
Progress = Callable[[int, int], None]
"""Called with (pictures done, pictures in all)."""


@runtime_checkable
class Describes(Protocol):
    """What is needed of a captioning model."""

    num_cut: int
    """Captions so far that had not come to their end."""

    def describe(self, images: list[UInt8[Tensor, "3 _ _"]]) -> list[str]:
        """A caption of each image."""
        ...


@dataclass(frozen=True, kw_only=True)
class Recaptioned:
    """What was done."""

    path: Path
    """The metadata file."""
    written: int
    kept: int
    """Pictures that had a caption in this column before."""
    empty: int
    """Pictures without one now, those that could not be read aside."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Picture -> why it could not be read."""
    unknown: tuple[str, ...] = ()
    """Names in the given file that the folder does not have."""
    num_cut: int = 0
    """Captions that the model had not ended after as many tokens as it may write."""


def merge_captions(data: ImagesConfig, column: str, given: Path) -> Recaptioned:
    """Take captions that were made elsewhere.

    Raises:
        ValueError: nothing in the file is of this folder; or see
            :func:`pippin.data.recaption.given_captions` and ``set_column``.
        FolderBusyError: another process writes captions there.
    """
    entries = _entries(data)
    captions = given_captions(given)
    names = {entry.name for entry in entries}
    unknown = tuple(name for name in captions if name not in names)
    if len(unknown) == len(captions):
        first = f", such as {unknown[0]}" if unknown else ""
        raise ValueError(
            f"{given} names no picture of {data.path}: file_name must be relative to the folder; "
            f"it has {len(captions)} names{first}"
        )
    with folder_lock(Path(data.path)):
        return _set(data, column, entries, captions, unknown=unknown)


def write_captions(
    data: ImagesConfig,
    column: str,
    captioner: Callable[[], Describes],
    *,
    fingerprint: str,
    batch_size: int,
    progress: Progress,
) -> Recaptioned:
    """Describe every picture that has no caption in the column.

    Captions are kept in a hidden file of the folder as they come, and the metadata file is written
    at the end; after a kill the same call goes on.

    Args:
        data: the folder, and which metadata file.
        column: that :func:`pippin.data.metadata.check_column` allows.
        captioner: made only where something is to be described.
        fingerprint: of the captioner: another one's hidden file is not read.
        batch_size: pictures described at once.
        progress: told after each batch.

    Raises:
        ValueError, OSError: see :func:`pippin.data.recaption.set_column`.
        FolderBusyError: another process writes captions there.
    """
    folder = Path(data.path)
    entries = _entries(data)
    with folder_lock(folder):
        journal = folder / f".{column}-{fingerprint}.jsonl"
        captions = _remembered(journal)
        open_ones = [e for e in entries if not e.captions.get(column) and e.name not in captions]
        unread: dict[str, str] = {}
        model = captioner() if open_ones else None
        for start in range(0, len(open_ones), batch_size):
            images = _readable(open_ones[start : start + batch_size], unread)
            assert model is not None
            found = dict(zip(images, model.describe(list(images.values())), strict=True))
            append_lines(journal, ({"file_name": n, "caption": c} for n, c in found.items()))
            captions |= found
            progress(min(start + batch_size, len(open_ones)), len(open_ones))
        done = _set(data, column, entries, captions, unread=unread)
        journal.unlink(missing_ok=True)
    return done if model is None else replace(done, num_cut=model.num_cut)


def unread_line(data: ImagesConfig, column: str) -> str | None:
    """How many captions of a column are longer than the recipe of text reads; None where none is,
    or its encoder is not installed."""
    if not minilm_installed():
        return None
    recipe = get_recipe(TEXT_RECIPE)
    semantic = recipe.conditioning.semantic
    assert isinstance(semantic, TextSemantic)
    captions = [e.captions[column] for e in list_pictures(data).entries if e.captions.get(column)]
    longer = {one.caption for one in TextEncoder(recipe.text).cuts(captions, semantic.num_tokens)}
    count = sum(caption in longer for caption in captions)
    if not count:
        return None
    return (
        f"{count} of {len(captions)} captions ({count / len(captions):.1%}) have more than the "
        f"{semantic.num_tokens} tokens that {TEXT_RECIPE} reads: "
        "conditioning.semantic.num_tokens reads more"
    )


def _entries(data: ImagesConfig) -> list[Entry]:
    """The images; a new metadata file would keep names of splits as classes."""
    listing = list_pictures(data)
    listing.check_layout(data.path)
    return listing.entries


def _remembered(journal: Path) -> dict[str, str]:
    """Captions of an earlier call; a torn line is passed over, and its picture described again."""
    lines = read_lines(journal).objects.values()
    return {str(one["file_name"]): str(one["caption"]) for one in lines}


def _readable(entries: list[Entry], unread: dict[str, str]) -> dict[str, UInt8[Tensor, "3 _ _"]]:
    """Pixels by name; pictures that cannot be read are noted."""
    images = {}
    for entry in entries:
        try:
            images[entry.name] = read_image(entry.path)
        except UnreadableImageError as error:
            unread[entry.name] = error.detail
    return images


def _set(
    data: ImagesConfig,
    column: str,
    entries: list[Entry],
    captions: Mapping[str, str],
    unread: Mapping[str, str] | None = None,
    unknown: tuple[str, ...] = (),
) -> Recaptioned:
    """Write the column, and count."""
    unread = unread or {}
    lacking = [entry.name for entry in entries if not entry.captions.get(column)]
    written = sum(bool(captions.get(name)) for name in lacking)
    if not written and len(lacking) == len(entries):  # no file is made for nothing
        first = "".join(f", such as {name}: {why}" for name, why in [*unread.items()][:1])
        raise ValueError(
            f"no picture of {data.path} gets a caption; {len(unread)} cannot be read{first}"
        )
    return Recaptioned(
        path=set_column(data, column, captions),
        written=written,
        kept=len(entries) - len(lacking),
        empty=len(lacking) - written - len(unread),
        unread=unread,
        unknown=unknown,
    )

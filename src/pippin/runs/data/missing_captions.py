# SPDX-License-Identifier: Apache-2.0
"""Captions for images of a custom data set that have none, by a captioning model, before a start.

The captions go into a column of the folder's metadata file that is named after the model, and the
recipe reads that column. An image with a main caption keeps it: it stands for the empty cell.
"""

import re
from pathlib import Path

import torch
from rich.console import Console

from pippin.data.config import ImagesConfig
from pippin.data.folder.listing import Entry, Listing, list_images
from pippin.data.folder.metadata_columns import MORE_CAPTIONS
from pippin.data.folder.recaption import RecaptionResult, lacking_captions, write_captions
from pippin.encoders.captioner import Captioner, captioner_fingerprint, stated_max_tokens
from pippin.images.files import UnreadableImageError, inspect_image
from pippin.system.device import resolve_device
from pippin.system.main_memory import is_out_of_memory
from pippin.system.progress import Progress

MAX_TOKENS, BATCH_SIZE = 40, 16
"""Maximum number of tokens of a caption, and images per batch."""


def caption_column(source: str) -> str:
    """Column of the captions of a model: ``caption_`` and the last part of its name or folder."""
    folder = Path(source)
    name = folder.resolve().name if folder.is_dir() else source.strip("/").rpartition("/")[2]
    return MORE_CAPTIONS + (re.sub(r"[^A-Za-z0-9_.-]+", "-", name) or "model")


def uncaptioned(listing: Listing, source: str) -> list[Entry]:
    """Images without a main caption, and without one of the model.

    Once the column exists, images that cannot be read do not count: they have been tried, and
    training skips them.

    Args:
        listing: names and captions of a folder.
        source: the captioning model.
    """
    column = caption_column(source)
    lacking = lacking_captions(listing.entries, column, keep_main=True)
    if column not in listing.caption_kinds:
        return lacking
    return [entry for entry in lacking if _is_readable(entry.path)]


def _is_readable(path: Path) -> bool:
    try:
        inspect_image(path)
    except UnreadableImageError:
        return False
    return True


def caption_missing(
    data: ImagesConfig, source: str, device: str, console: Console
) -> RecaptionResult | None:
    """Caption the images that have no caption, or resume; None if there are none.

    Args:
        data: the folder of images, whose metadata file gets the captions.
        source: a captioning model: a folder or a hub name.
        device: as in ``train.device``.
        console: for progress.

    Raises:
        ValueError: a model that cannot be loaded or that exhausts the device's memory, or no
            readable image.
        FolderBusyError: another process writes captions there.
        OSError: the metadata file cannot be written.
    """
    if not uncaptioned(list_images(data), source):
        return None
    max_tokens, column = stated_max_tokens(source, MAX_TOKENS), caption_column(source)
    try:
        return write_model_captions(
            data,
            column,
            source,
            max_tokens=max_tokens,
            batch_size=BATCH_SIZE,
            device=device,
            console=console,
            keep_main=True,
        )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"captioner {source} exhausts the memory of {device} with {BATCH_SIZE} images at "
            f"once: type pippin data recaption {data.path} --column {column} --captioner {source} "
            "--batch-size 1 first, and then this command again"
        ) from error
    finally:
        if torch.cuda.is_initialized():  # the training's own peak is measured
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def write_model_captions(
    data: ImagesConfig,
    column: str,
    source: str,
    *,
    max_tokens: int,
    batch_size: int,
    device: str,
    console: Console,
    keep_main: bool = False,
) -> RecaptionResult:
    """Load a captioning model and fill a column, with progress; see
    :func:`pippin.data.folder.recaption.write_captions`."""
    resolved = resolve_device(device)
    with Progress(console, "captioning") as progress:
        return write_captions(
            data,
            column,
            lambda: Captioner(source, max_tokens=max_tokens, device=resolved),
            fingerprint=captioner_fingerprint(source, max_tokens),
            batch_size=batch_size,
            progress=progress.update,
            keep_main=keep_main,
        )

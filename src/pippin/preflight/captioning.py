# SPDX-License-Identifier: Apache-2.0
"""Check of the captioner of a start, and its images as captioning will leave them."""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pippin.data.config import ImagesConfig
from pippin.data.folder.listing import Listing
from pippin.encoders.captioner import stated_max_tokens
from pippin.runs.data.missing_captions import MAX_TOKENS, caption_column, uncaptioned

if TYPE_CHECKING:
    from pippin.preflight.start import Start


def with_planned_captions(listing: Listing, captioner: str) -> Listing:
    """Listing with a stand-in, the image's name, for each caption that will be written.

    Args:
        listing: names and captions of a folder.
        captioner: the captioning model.
    """
    column = caption_column(captioner)
    planned = {entry.name for entry in uncaptioned(listing, captioner)}
    entries = [
        replace(entry, captions={**entry.captions, column: entry.name})
        if entry.name in planned
        else entry
        for entry in listing.entries
    ]
    kinds = tuple(dict.fromkeys((*listing.caption_kinds, *([column] if planned else []))))
    return replace(listing, entries=entries, caption_kinds=kinds)


def check_captioner(start: "Start") -> Iterator[str]:
    """Refuse a captioner without use, one that cannot be loaded, and a read-only folder."""
    source = start.captioner
    if source is None:
        return
    if not start.is_text:
        yield (
            f"--captioner {source}: this recipe reads no text. Add --text-encoder, such as "
            "--text-encoder minilm, or leave --captioner out"
        )
        return
    data, listing = start.located.data, start.unchanged_listing
    if listing is None or not isinstance(data, ImagesConfig):
        yield (
            f"--captioner {source} captions image files of a folder: give --data.path FOLDER, "
            "without shards; `pippin data import` unpacks them"
        )
        return
    path, column = data.path, caption_column(source)
    if uncaptioned(listing, source):
        stated_max_tokens(source, MAX_TOKENS)
        if not os.access(path, os.W_OK | os.X_OK):
            yield (
                f"--captioner {source} writes captions to the metadata file in {path}, which "
                "cannot be written: give the permission (chmod u+w), or copy the folder"
            )
    elif column not in listing.caption_kinds:
        yield (
            f"--captioner {source}: all images of {path} have a caption. Leave it out; or add a "
            f"second caption to each by pippin data recaption {path} --column {column} "
            f"--captioner {source}, and mix both with --text.captions name 0.5 {column} 0.5"
        )


def describe_captioning(start: "Start") -> Iterator[tuple[str, str]]:
    """Row on images that will be captioned, for the resolved plan."""
    if start.captioner is None or start.unchanged_listing is None:
        return
    count = len(uncaptioned(start.unchanged_listing, start.captioner))
    column = caption_column(start.captioner)
    yield "captions", f"{count:,} images without one: by {start.captioner}, as {column}"

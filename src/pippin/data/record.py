# SPDX-License-Identifier: Apache-2.0
"""What is kept of a run's data set, so that names and counts never depend on the folder of today.

A record holds no file names: hashes say whether the images or their captions are the same, and
counts say where they are not.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pippin.config import Config
from pippin.data.source import PictureSource

LISTED = 5
"""Names that a message lists before it counts the rest."""


@dataclass(frozen=True, kw_only=True)
class SplitRecord(Config):
    """The images of one split."""

    images: int
    per_class: tuple[int, ...]
    """Images of each class id."""
    content: str
    """16 hexadecimal digits over names, class names and bytes of the files."""
    captions: dict[str, str] = field(default_factory=dict)
    """Kind of caption that the model reads -> 16 hexadecimal digits over the images' captions."""


@dataclass(frozen=True, kw_only=True)
class DataRecord(Config):
    """The data set that a run was trained on."""

    kind: str
    """As in ``data.kind``."""
    class_names: tuple[str, ...]
    """Class id -> name."""
    caption_kinds: tuple[str, ...]
    """Kinds of captions that the images have."""
    layout: str | None
    """Of a folder; None for embedded images."""
    decoder: str
    """Library and version that turned the files into pixels."""
    source_hash: str
    """Of the training split, as in the keys of latent caches."""
    probe_side: int
    """A side in pixels that at least half of the training images can be shown at."""
    train: SplitRecord
    held_out: SplitRecord


def record_data(
    train: PictureSource, held_out: PictureSource, captions: Sequence[str] = ()
) -> DataRecord:
    """The record of a data set as it is now.

    Args:
        train, held_out: both splits of one data set.
        captions: kinds that are hashed: those that somebody reads.
    """
    return DataRecord(
        kind=train.config.kind,
        class_names=tuple(train.class_names),
        caption_kinds=tuple(train.captions(0)),
        layout=train.layout,
        decoder=train.decoder,
        source_hash=train.source_hash(),
        probe_side=train.probe_side,
        train=_record_split(train, captions),
        held_out=_record_split(held_out, captions),
    )


def _record_split(source: PictureSource, captions: Sequence[str]) -> SplitRecord:
    labels = Counter(source.label(index) for index in range(len(source)))
    digests = {kind: hashlib.sha256() for kind in captions}
    for index in range(len(source)) if captions else ():
        own = source.captions(index)
        for kind, digest in digests.items():
            digest.update(json.dumps([source.key(index), own.get(kind)]).encode())
    return SplitRecord(
        images=len(source),
        per_class=tuple(labels[label] for label in range(len(source.class_names))),
        content=source.content_hash(),
        captions={kind: digest.hexdigest()[:16] for kind, digest in digests.items()},
    )


def class_changes(recorded: Sequence[str], now: Sequence[str]) -> str:
    """How class names differ, in words; empty where they do not."""
    if tuple(recorded) == tuple(now):
        return ""
    moved = [
        f"{label} was {old}, is {new}"
        for label, (old, new) in enumerate(zip(recorded, now, strict=False))
        if old != new
    ]
    parts = {
        "no longer there": [name for name in recorded if name not in set(now)],
        "new": [name for name in now if name not in set(recorded)],
        "ids that mean another class": moved,
    }
    said = [f"{what}: {listed(names)}" for what, names in parts.items() if names]
    return f"class names differ ({'; '.join(said)})"


def image_changes(recorded: DataRecord, now: DataRecord, captions: Sequence[str] = ()) -> str:
    """How images, or captions of some kinds, differ, in words; empty where they do not."""
    said = []
    for what, before, after in _splits(recorded, now):
        if before.content != after.content:
            said.append(f"the {what} images are others ({_counts(recorded, now, before, after)})")
        other = [one for one in captions if before.captions.get(one) != after.captions.get(one)]
        if other:
            said.append(f"captions of the {what} images differ ({', '.join(other)})")
    return "; ".join(said)


def decoder_change(recorded: DataRecord, now: DataRecord) -> str:
    """What else turns files into pixels, in words; empty where nothing does."""
    if recorded.decoder == now.decoder:
        return ""
    return f"{recorded.decoder} decoded them before, {now.decoder} does now"


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:LISTED])
    more = len(names) - LISTED
    return f"{shown} and {more} more" if more > 0 else shown


def _splits(
    recorded: DataRecord, now: DataRecord
) -> tuple[tuple[str, SplitRecord, SplitRecord], ...]:
    return (
        ("training", recorded.train, now.train),
        ("held-out", recorded.held_out, now.held_out),
    )


def _counts(recorded: DataRecord, now: DataRecord, before: SplitRecord, after: SplitRecord) -> str:
    """How many there were and are, by class where that differs."""
    old = dict(zip(recorded.class_names, before.per_class, strict=True))
    new = dict(zip(now.class_names, after.per_class, strict=True))
    names = [name for name in {**old, **new} if old.get(name, 0) != new.get(name, 0)]
    changes = [f"{name} {old.get(name, 0)} -> {new.get(name, 0)}" for name in names]
    if not changes:
        return f"{after.images} as before, but other files, or files of other classes"
    return f"{before.images} -> {after.images}; {listed(changes)}"

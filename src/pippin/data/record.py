# SPDX-License-Identifier: Apache-2.0
"""Record of a run's data set, and class ids of a user's input.

With the record, class names and counts do not depend on the current folder. It holds no file
names: hashes detect changes of images or captions, and counts locate them.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pippin.config import Config
from pippin.data.folder.caption_files import label_number
from pippin.data.source import ImageSource


def find_label(label: str, class_names: Sequence[str]) -> int:
    """Find the id of a class.

    Where any class has a number as its name, a number means the class whose name has that value,
    never an id: ids follow the order of names, so 2 may be the id of the class 10.

    Args:
        label: a name, or an id.
        class_names: class id -> name.

    Raises:
        ValueError: no such class, or several; the message lists the classes.
    """
    if label in class_names:
        return list(class_names).index(label)
    value = label_number(label)
    numbers = {index: label_number(name) for index, name in enumerate(class_names)}
    if any(number is not None for number in numbers.values()):
        matches = [
            index for index, number in numbers.items() if number is not None and number == value
        ]
        if len(matches) == 1:
            return matches[0]
        hint = "; names of classes are numbers, so a number is a name and no id"
    else:
        hint = ""
        if label.isascii() and label.isdigit() and int(label) < len(class_names):
            return int(label)
    listed = ", ".join(f"{index} {name}" for index, name in enumerate(class_names))
    raise ValueError(f"no class {label!r}; there are: {listed}{hint}")


LISTED = 5
"""Maximum number of names in a message."""


@dataclass(frozen=True, kw_only=True)
class SplitRecord(Config):
    """The images of one split."""

    images: int
    per_class: tuple[int, ...]
    """Number of images of each class id."""
    content: str
    """Hash of names, class names and bytes of the files, 16 hexadecimal digits."""
    captions: dict[str, str] = field(default_factory=dict)
    """Kind of caption that the model reads -> hash of the captions, 16 hexadecimal digits."""


@dataclass(frozen=True, kw_only=True)
class DataRecord(Config):
    """Record of the data set of a run."""

    kind: str
    """See ``data.kind``."""
    class_names: tuple[str, ...]
    """Class id -> name."""
    caption_kinds: tuple[str, ...]
    """Kinds of captions that the images have."""
    layout: str | None
    """Layout of a folder; None for embedded images."""
    decoder: str
    """Library and version that decoded the files."""
    source_hash: str
    """Hash of the training split, as in the keys of latent caches."""
    probe_side: int
    """Side in pixels that at least half of the training images reach."""
    train: SplitRecord
    held_out: SplitRecord


def record_data(
    train: ImageSource, held_out: ImageSource, captions: Sequence[str] = ()
) -> DataRecord:
    """Record the current data set.

    Args:
        train, held_out: both splits of one data set.
        captions: kinds of captions to hash, which the model reads.
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


def _record_split(source: ImageSource, captions: Sequence[str]) -> SplitRecord:
    labels = Counter(source.label(index) for index in range(len(source)))
    digests = {kind: hashlib.sha256() for kind in captions}
    for index in range(len(source)) if captions else ():
        image_captions = source.captions(index)
        for kind, digest in digests.items():
            digest.update(json.dumps([source.key(index), image_captions.get(kind)]).encode())
    return SplitRecord(
        images=len(source),
        per_class=tuple(labels[label] for label in range(len(source.class_names))),
        content=source.content_hash(),
        captions={kind: digest.hexdigest()[:16] for kind, digest in digests.items()},
    )


def class_changes(recorded: Sequence[str], now: Sequence[str]) -> str:
    """Description of changed class names; empty if there are none."""
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
    changes = [f"{what}: {format_names(names)}" for what, names in parts.items() if names]
    return f"class names differ ({'; '.join(changes)})"


def image_changes(recorded: DataRecord, now: DataRecord, captions: Sequence[str] = ()) -> str:
    """Description of changed images or captions; empty if there are none."""
    changes = []
    for what, before, after in _splits(recorded, now):
        if before.content != after.content:
            changes.append(
                f"the {what} images are others ({_counts(recorded, now, before, after)})"
            )
        changed_kinds = [
            kind for kind in captions if before.captions.get(kind) != after.captions.get(kind)
        ]
        if changed_kinds:
            changes.append(f"captions of the {what} images differ ({', '.join(changed_kinds)})")
    return "; ".join(changes)


def decoder_change(recorded: DataRecord, now: DataRecord) -> str:
    """Description of a changed decoder; empty if it is the same."""
    if recorded.decoder == now.decoder:
        return ""
    return f"{recorded.decoder} decoded them before, {now.decoder} does now"


def format_names(names: Sequence[str]) -> str:
    """First names of a list, and the number of the rest."""
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
    """Numbers of images before and now, by class if they differ."""
    old = dict(zip(recorded.class_names, before.per_class, strict=True))
    new = dict(zip(now.class_names, after.per_class, strict=True))
    names = [name for name in {**old, **new} if old.get(name, 0) != new.get(name, 0)]
    changes = [f"{name} {old.get(name, 0)} -> {new.get(name, 0)}" for name in names]
    if not changes:
        return f"{after.images} as before, but other files, or files of other classes"
    return f"{before.images} -> {after.images}; {format_names(changes)}"

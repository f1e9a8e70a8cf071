# SPDX-License-Identifier: Apache-2.0
"""What a user should know of own pictures before training on them."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import median

from pippin.control import Size
from pippin.data.config import ImagesConfig
from pippin.data.images import split_pictures
from pippin.data.metadata_columns import MAIN
from pippin.data.scan import OwnPicture, Scan
from pippin.data.table import Split
from pippin.image_files import RULES, Rule


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Three numbers that stand for many."""

    smallest: float
    median: float
    largest: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Of at least one value."""
        return cls(smallest=min(values), median=median(values), largest=max(values))


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Counts over the pictures that are used."""

    classes: dict[str, dict[Split, int]]
    """Class name -> pictures in each split, in the order of class ids."""
    splits: dict[Split, int]
    buckets: dict[Size, dict[Split, int]]
    """Size of training images -> pictures in each split, by increasing ratio; empty ones too."""
    shorter_side: Spread
    """In pixels of the files as stored."""
    aspect: Spread
    """Width over height."""
    rules: dict[Rule, int]
    """Rule -> pictures it was applied to; those that were met."""
    repeated: int
    """Pictures that have the bytes of an earlier one."""
    notes: tuple[str, ...]
    """What is allowed but seldom wanted."""


def summarise(found: Scan, config: ImagesConfig) -> Summary:
    """Counts, sizes, rules and notes.

    Args:
        found: at least one picture.
        config: of the scan.
    """
    pictures = found.pictures
    parts = split_pictures(pictures, config.held_out_share)
    in_class = {split: Counter(p.label for p in part) for split, part in parts.items()}
    classes = {
        name: {split: count[number] for split, count in in_class.items()}
        for number, name in enumerate(found.class_names)
    }
    in_bucket = {
        split: Counter(config.view_size(p.size) for p in part) for split, part in parts.items()
    }
    met = Counter(rule for picture in pictures for rule in picture.rules)
    return Summary(
        classes=classes,
        splits={split: len(part) for split, part in parts.items()},
        buckets={
            size: {split: count[size] for split, count in in_bucket.items()}
            for size in config.view_sizes
        },
        shorter_side=Spread.of([min(p.size) for p in pictures]),
        aspect=Spread.of([p.size.width / p.size.height for p in pictures]),
        rules={rule: met[rule] for rule in RULES if met[rule]},
        repeated=len(pictures) - len({p.sha256 for p in pictures}),
        notes=tuple(_notes(found, config, classes)),
    )


def _notes(found: Scan, config: ImagesConfig, classes: dict[str, dict[Split, int]]) -> list[str]:
    notes = []
    if len(found.class_names) == 1:
        notes.append(
            "there is one class only: guidance by class has nothing to tell apart; the recipe "
            "folder/mmdit-unconditional leaves classes out"
        )
    notes.append(_captions(found))
    notes += found.facts.warnings(config.path) + found.facts.hints(config.path)
    if found.unread_captions:
        notes.append(
            f"{found.unread_captions} pictures have text files of their own name, which are not "
            "read: the metadata file counts, and it has no column caption; give it one, or take "
            "the file away"
        )
    if empty := [name for name, count in classes.items() if not count["train"]]:
        notes.append(f"no picture of these classes is trained on: {', '.join(empty)}")
    if twice := _in_several_classes(found.pictures):
        notes.append(f"{twice} pictures with the same bytes have different classes")
    views = [(p.size, config.view_size(p.size)) for p in found.pictures]
    small = sum(any(a < b for a, b in zip(size, view, strict=True)) for size, view in views)
    if small:
        below = (
            "side below that of their bucket"
            if config.aspect_ratios
            else f"shorter side below the resolution of {config.resolution}"
        )
        notes.append(f"{small} pictures have a {below} and are enlarged")
    return notes


def _captions(found: Scan) -> str:
    """How many pictures have a caption of each kind, and what those without one train on."""
    total = len(found.pictures)
    lacking = {
        kind: sum(kind not in picture.captions for picture in found.pictures)
        for kind in found.caption_kinds
    }
    if not lacking or min(lacking.values()) == total:
        return (
            "captions: none; recipes of text need some, or --text.captions class 1, which gives "
            "the names of classes"
        )
    listed = ", ".join(f"{kind} ({count} empty)" for kind, count in lacking.items())
    text = (
        f"kinds of captions: {listed}; the recipe folder/mmdit-disentangled-text trains on them, "
        "and text.captions mixes kinds"
    )
    if without := lacking.get(MAIN, total):
        text += (
            f"; {without} pictures ({without / total:.1%}) have no main caption and are trained "
            "with the name of their class"
        )
    return text


def _in_several_classes(pictures: tuple[OwnPicture, ...]) -> int:
    """How many pictures' bytes stand under more than one class."""
    labels = defaultdict(set)
    for picture in pictures:
        labels[picture.sha256].add(picture.label)
    return sum(len(found) > 1 for found in labels.values())

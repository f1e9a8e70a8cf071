# SPDX-License-Identifier: Apache-2.0
"""Summary of a custom data set: counts, sizes and advice before training."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from pippin.control import Size
from pippin.data.config import ImagesConfig
from pippin.data.folder.metadata_columns import MAIN
from pippin.data.folder.scan import Scan
from pippin.data.folder.scanned import ScannedImage
from pippin.data.sources.images import split_images
from pippin.data.sources.openmoji_table import Split
from pippin.images.files import CONVERSION_RULES, ConversionRule


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Smallest, median and largest of many values."""

    smallest: float
    median: float
    largest: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Spread of at least one value."""
        return cls(smallest=min(values), median=median(values), largest=max(values))


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Counts over usable images."""

    classes: dict[str, dict[Split, int]]
    """Class name -> number of images in each split, in the order of class ids."""
    splits: dict[Split, int]
    buckets: dict[Size, dict[Split, int]]
    """Bucket size -> number of images in each split, by increasing ratio; empty ones included."""
    shorter_side: Spread
    """Shorter side of stored files, in pixels."""
    aspect: Spread
    """Width / height."""
    rules: dict[ConversionRule, int]
    """Decoding rule -> number of images that needed it."""
    repeated: int
    """Number of images that duplicate the bytes of an earlier one."""
    notes: tuple[str, ...]
    """Warnings about allowed but unusual properties."""


def summarise(scan: Scan, config: ImagesConfig) -> Summary:
    """Summarise counts, sizes, rules and warnings.

    Args:
        scan: scan with at least one image.
        config: configuration of the scan.
    """
    images = scan.images
    parts = split_images(images, config.held_out_share)
    in_class = {split: Counter(p.label for p in part) for split, part in parts.items()}
    classes = {
        name: {split: count[number] for split, count in in_class.items()}
        for number, name in enumerate(scan.class_names)
    }
    in_bucket = {
        split: Counter(config.view_size(p.size) for p in part) for split, part in parts.items()
    }
    rule_counts = Counter(rule for image in images for rule in image.rules)
    return Summary(
        classes=classes,
        splits={split: len(part) for split, part in parts.items()},
        buckets={
            size: {split: count[size] for split, count in in_bucket.items()}
            for size in config.view_sizes
        },
        shorter_side=Spread.of([min(p.size) for p in images]),
        aspect=Spread.of([p.size.width / p.size.height for p in images]),
        rules={rule: rule_counts[rule] for rule in CONVERSION_RULES if rule_counts[rule]},
        repeated=len(images) - len({p.sha256 for p in images}),
        notes=tuple(_notes(scan, config, classes)),
    )


def _notes(scan: Scan, config: ImagesConfig, classes: dict[str, dict[Split, int]]) -> list[str]:
    notes = []
    if len(scan.class_names) == 1:
        notes.append(
            "there is only one class, so class guidance has no effect; the recipe "
            "folder/mmdit-unconditional trains without classes"
        )
    notes.append(_captions(scan))
    notes += scan.facts.warnings(config.path) + scan.facts.hints(config.path)
    if scan.unread_captions:
        notes.append(
            f"{scan.unread_captions} images have caption files that are not read, because a "
            "metadata file without a column caption takes precedence; add this column, or remove "
            "the metadata file"
        )
    if empty := [name for name, count in classes.items() if not count["train"]]:
        notes.append(f"these classes have no training images: {', '.join(empty)}")
    if conflicts := _in_several_classes(scan.images):
        notes.append(f"{conflicts} images with the same bytes have different classes")
    views = [(p.size, config.view_size(p.size)) for p in scan.images]
    small = sum(any(a < b for a, b in zip(size, view, strict=True)) for size, view in views)
    if small:
        below = (
            "side below that of their bucket"
            if config.aspect_ratios
            else f"shorter side below the resolution of {config.resolution}"
        )
        notes.append(f"{small} images have a {below} and are enlarged")
    return notes


def _captions(scan: Scan) -> str:
    """Number of captions of each kind, and the fallback for images without captions."""
    total = len(scan.images)
    missing = {
        kind: sum(kind not in image.captions for image in scan.images)
        for kind in scan.caption_kinds
    }
    if not missing or min(missing.values()) == total:
        return (
            "captions: none; text recipes need captions, or --text.captions class 1, which uses "
            "class names"
        )
    kinds = ", ".join(f"{kind} ({count} empty)" for kind, count in missing.items())
    text = (
        f"kinds of captions: {kinds}; the recipe folder/mmdit-disentangled-text trains on them, "
        "and text.captions mixes kinds"
    )
    if without := missing.get(MAIN, total):
        text += (
            f"; {without} images ({without / total:.1%}) have no main caption and use the name "
            "of their class"
        )
    return text


def _in_several_classes(images: Sequence[ScannedImage]) -> int:
    """Number of distinct file contents that have more than one class."""
    labels = defaultdict(set)
    for image in images:
        labels[image.sha256].add(image.label)
    return sum(len(class_ids) > 1 for class_ids in labels.values())

# SPDX-License-Identifier: Apache-2.0
"""Shards of a source read image by image, for caches that are built without unpacking them.

The folder of the images gets what an import writes, but for the image files: records of shards in
``.parts``, ``metadata.jsonl``, files of a sample of the images, a table of all images
(:mod:`pippin.data.folder.image_table`) and ``skipped.jsonl``.
"""

import hashlib
import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from pippin.control import Size
from pippin.data.cache.latent_writer import ImageViews
from pippin.data.config import ImagesConfig
from pippin.data.folder.image_table import image_number
from pippin.data.importing.import_sources import Shard
from pippin.data.importing.parts import Part, read_part, shard_folder
from pippin.data.importing.rows import printable
from pippin.data.importing.shards import RowImage, read_images
from pippin.data.source import hash_fraction
from pippin.data.streaming.shard_source import ShardSource
from pippin.data.views.crop import apply_control
from pippin.data.views.views import draw_view
from pippin.images.files import PERMANENT_REASONS, UnreadableImageError, decode_image
from pippin.system.files import (
    atomic_write,
    name_file_in_errors,
    remove_temporary_files,
    sync_tree,
)
from pippin.types import stack_controls

WINDOW = 4
"""Number of images that each thread prefetches."""

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def read_streamed_part(shard: Shard, folder: Path) -> Part | None:
    """Record of a shard and its kept files; None if it is missing or incomplete.

    Raises:
        ConfigError: the record belongs to another shard of the same index, or is damaged.
    """
    part = read_part(shard, folder, sizes=False)
    if part is None or part.files is None:
        return None
    for row, file, size in zip(part.rows, part.files, part.num_bytes, strict=True):
        path = folder / row["file_name"]
        if file["has_file"] and (not path.is_file() or path.stat().st_size != size):
            return None
    return part


def content_of(part: Part) -> str:
    """Hash of the names and bytes of a shard's images, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for row, file in zip(part.rows, part.files or (), strict=True):
        digest.update(f"{row['file_name']} {file['sha256']}\n".encode())
    return digest.hexdigest()[:16]


def stream_shard(
    source: ShardSource,
    shard: Shard,
    data: ImagesConfig,
    add: Callable[[ImageViews], None],
    *,
    threads: int = 0,
) -> Part:
    """Read a shard and pass on the views of its images, in order; returns its record.

    The caller writes the record with :func:`pippin.data.importing.parts.write_part` after its own
    files.

    Args:
        source: source of the shard.
        shard: the shard to read.
        data: settings of the views.
        add: called with the views of each image of at least ``data.min_side`` pixels.
        threads: number of threads that decode images; 0 = this one.

    Raises:
        ConfigError: a column is missing, or the shard cannot be read.
        OSError: no disk space.
    """
    part = Part(of=shard.identity, rows=[], lost=[], folders=[], files=[])
    assert part.files is not None
    kept = _KeptFiles(source.folder, source.quota(shard))
    rows = read_images(
        shard,
        source.columns,
        source.scratch,
        part,
        require_caption=source.config.require_caption,
    )
    prepare = _Preparation(shard, data)
    remove_temporary_files(source.folder / shard_folder(shard))  # of a process that was killed
    with name_file_in_errors(source.folder):
        for row, facts, views in _map_prefetched(prepare, rows, threads):
            part.files.append(facts)
            if facts["reason"] is None:
                kept.add(len(part.files) - 1, f"{shard_folder(shard)}/{row.name}", row.content)
            if views is not None:
                add(views)
        if kept.places:
            sync_tree(source.folder / shard_folder(shard))
    for place, facts in enumerate(part.files):
        facts["has_file"] = place in kept.places
    return part


@dataclass(frozen=True)
class _Preparation:
    """Decoding of one image and its views."""

    shard: Shard
    data: ImagesConfig

    def __call__(self, row: RowImage) -> tuple[RowImage, dict[str, Any], ImageViews | None]:
        """The row, facts about its file, and its views unless they cannot be used.

        Raises:
            MemoryError: the memory or the system fails; the image may be intact.
        """
        name = f"{shard_folder(self.shard)}/{row.name}"
        facts: dict[str, Any] = {
            "key": printable(row.key),
            "sha256": hashlib.sha256(row.content).hexdigest(),
            "height": 0,
            "width": 0,
            "rules": [],
            "reason": None,
            "detail": "",
        }
        try:
            pixels, metadata = decode_image(row.content, name)
        except UnreadableImageError as error:
            if error.reason not in PERMANENT_REASONS:
                raise MemoryError(f"image {name}: {error.detail}") from error
            return row, {**facts, "reason": error.reason, "detail": error.detail}, None
        facts |= {"height": metadata.size.height, "width": metadata.size.width}
        facts["rules"] = list(metadata.rules)
        if min(metadata.size) < self.data.min_side:
            return row, facts, None
        number = image_number(self.shard.index, row.number)
        return row, facts, self._views(number, name, pixels, metadata.size)

    def _views(self, number: int, name: str, pixels: torch.Tensor, original: Size) -> ImageViews:
        size = self.data.view_size(original)
        controls = [draw_view(self.data, name, v, original) for v in range(self.data.views)]
        images = [apply_control(pixels, control, *size) for control in controls]
        return ImageViews(
            number=number, images=torch.stack(images), control=stack_controls(controls)
        )


class _KeptFiles:
    """Files of the images of a shard with the smallest hashes of their names."""

    def __init__(self, folder: Path, quota: int) -> None:
        self._folder, self._quota = folder, quota
        self._kept: list[tuple[float, int, str]] = []
        """Heap of (-fraction, place, name)."""

    @property
    def places(self) -> set[int]:
        """Places of the kept images in the record of the shard."""
        return {place for _, place, _ in self._kept}

    def add(self, place: int, name: str, content: bytes) -> None:
        """Keep an image, and drop the file with the largest hash if there are too many."""
        entry = (-hash_fraction(f"kept/{name}"), place, name)
        if len(self._kept) >= self._quota and (not self._quota or entry <= self._kept[0]):
            (self._folder / name).unlink(missing_ok=True)  # of a build that was killed
            return
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path, durable=False) as staging:
            staging.write_bytes(content)
        heapq.heappush(self._kept, entry)
        if len(self._kept) > self._quota:
            _, _, dropped = heapq.heappop(self._kept)
            (self._folder / dropped).unlink()


def _map_prefetched(
    function: Callable[[Argument], Result], arguments: Iterable[Argument], threads: int
) -> Iterator[Result]:
    """Results in the order of the arguments; at most ``WINDOW`` of each thread are waiting."""
    if not threads:
        yield from map(function, arguments)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for argument in arguments:
                waiting.append(pool.submit(function, argument))
                if len(waiting) >= WINDOW * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

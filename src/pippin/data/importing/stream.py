# SPDX-License-Identifier: Apache-2.0
"""Shards of a source read image by image, for caches that are built without unpacking them.

The folder of the images gets what an import writes, but for the image files: records of shards in
``.parts``, ``metadata.jsonl``, files of a sample of the images, a table of all images
(:mod:`pippin.data.folder.image_table`) and ``skipped.jsonl``.
"""

import hashlib
import heapq
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import PIL
import torch

from pippin.config import ConfigError
from pippin.control import Size
from pippin.data.cache.latent_writer import ImageViews
from pippin.data.cache.shard_claims import ShardClaims
from pippin.data.config import ImagesConfig
from pippin.data.folder.image_table import image_number
from pippin.data.importing.columns import Columns
from pippin.data.importing.config import ShardsConfig
from pippin.data.importing.import_sources import Shard, find_shards
from pippin.data.importing.importer import COLUMNS, find_import_columns, without_secrets
from pippin.data.importing.parts import PARTS, Part, read_part, shard_folder
from pippin.data.importing.shard_files import FileShard
from pippin.data.importing.shards import RowImage, read_images
from pippin.data.source import hash_fraction
from pippin.data.views.crop import apply_control
from pippin.data.views.views import draw_view
from pippin.images.files import UnreadableImageError, decode_image
from pippin.system.files import (
    atomic_write,
    make_folder,
    name_file_in_errors,
    remove_temporary_files,
    sync_tree,
)
from pippin.types import stack_controls

RECORD = "shards.json"
"""File in ``.parts`` with the source and columns that a user gave."""
DECODER = f"Pillow {PIL.__version__}"
NOT_IDENTITY = ("keep",)
"""Settings of a source that do not change latents."""
WINDOW = 4
"""Images that each thread may be ahead of the encoder."""

Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class ShardSource:
    """Source of shards, and the folder of their images."""

    config: ShardsConfig
    folder: Path
    shards: list[Shard]
    columns: Columns

    @property
    def scratch(self) -> Path:
        """Folder for the copy of a remote or compressed file."""
        return self.folder / PARTS

    def quota(self, shard: Shard) -> int:
        """Number of image files that a shard may keep; together they are ``config.keep``."""
        first = shard.index * self.config.keep // len(self.shards)
        stop = (shard.index + 1) * self.config.keep // len(self.shards)
        return stop - first


def recorded_source(folder: Path) -> ShardsConfig | None:
    """Source and columns that a folder was prepared from; None for another folder.

    Raises:
        ConfigError: the record is damaged.
    """
    path = folder / PARTS / RECORD
    return ShardsConfig.load(path) if path.is_file() else None


def open_source(config: ShardsConfig, folder: Path) -> ShardSource:
    """List the shards of a source and find its columns; creates or checks the folder.

    Any number of processes may call this at the same time.

    Raises:
        ConfigError: no such source or column, or a folder with other content.
    """
    shards = [_salvaging(shard) for shard in find_shards(config)]
    if not shards:
        raise ConfigError(f"{config.source} holds no shard")
    parts = folder / PARTS
    if not parts.exists() and folder.exists() and os.listdir(folder):
        raise ConfigError(f"{folder} is not empty: give a new folder as --data.path")
    make_folder(parts)
    with ShardClaims(parts) as claims, claims.exclusive():
        _check_record(without_secrets(config), folder)
        columns = find_import_columns(config, shards, folder)
    return ShardSource(config=config, folder=folder, shards=shards, columns=columns)


def _salvaging(shard: Shard) -> Shard:
    return replace(shard, salvage=True) if isinstance(shard, FileShard) else shard


def _check_record(config: ShardsConfig, folder: Path) -> None:
    """Record the source in a new folder, or compare it with the record."""
    path = folder / PARTS / RECORD
    if (folder / PARTS / "import.json").exists():
        raise ConfigError(f"{folder} holds an import of image files: give a new --data.path")
    if not any((folder / PARTS).glob("[0-9]*.json")):  # other settings are allowed until then
        (folder / PARTS / COLUMNS).unlink(missing_ok=True)
        config.save(path)
    recorded = ShardsConfig.load(path)
    if recorded != config:
        raise ConfigError(
            f"{folder} was prepared from {recorded.source} with other settings: repeat those, or "
            "give a new folder as --data.path"
        )


def source_identity(config: ShardsConfig, columns: Columns) -> dict[str, Any]:
    """What the latents of all images depend on beside the settings of the views."""
    values = without_secrets(config).to_dict()
    for name in NOT_IDENTITY:
        values.pop(name)
    return {**values, "columns": columns.to_dict(), "decoder": DECODER}


def recorded_identity(folder: Path) -> dict[str, Any]:
    """See :func:`source_identity`; of a prepared folder."""
    config = ShardsConfig.load(folder / PARTS / RECORD)
    return source_identity(config, Columns.load(folder / PARTS / COLUMNS))


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
        for row, facts, views in _map_ahead(prepare, rows, threads):
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
        """The row, facts about its file, and its views unless they cannot be used."""
        name = f"{shard_folder(self.shard)}/{row.name}"
        facts: dict[str, Any] = {
            "key": row.key,
            "sha256": hashlib.sha256(row.content).hexdigest(),
            "height": 0,
            "width": 0,
            "rules": [],
            "reason": None,
            "detail": "",
        }
        try:
            pixels, found = decode_image(row.content, name)
        except UnreadableImageError as error:
            return row, {**facts, "reason": error.reason, "detail": error.detail}, None
        facts |= {"height": found.size.height, "width": found.size.width}
        facts["rules"] = list(found.rules)
        if min(found.size) < self.data.min_side:
            return row, facts, None
        number = image_number(self.shard.index, row.number)
        return row, facts, self._views(number, name, pixels, found.size)

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


def _map_ahead(
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

# SPDX-License-Identifier: Apache-2.0
"""Encoding of the images of one shard into latent files of bounded size."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from pippin.control import Size
from pippin.data.cache.latent_cache import CONTROL_PREFIX, stored_moments
from pippin.data.cache.manifest import write_shard
from pippin.data.cache.streamed import LatentFile
from pippin.data.moments import Encoder, cat_moments, encode_images
from pippin.system.files import file_digest
from pippin.types import ControlBatch


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """Encoder of a build and its device."""

    encoder: Encoder
    device: torch.device | str
    dtype: torch.dtype
    """Number type on disk."""
    batch: int
    """Number of views encoded at once."""
    rows: int
    """Number of views in one file."""


@dataclass(frozen=True, kw_only=True)
class ImageViews:
    """All views of one image."""

    number: int
    """See :func:`pippin.data.folder.image_table.image_number`."""
    images: UInt8[Tensor, "views 3 height width"]
    control: ControlBatch


@dataclass
class _Pending:
    """Images of one size: not encoded yet, and encoded but not written."""

    waiting: list[ImageViews] = field(default_factory=list)
    encoded: list[dict[str, Tensor]] = field(default_factory=list)
    count: int = 0
    """Number of encoded images."""


class LatentWriter:
    """Writer of the latents of one shard.

    Batches and files depend on the images of the shard only, and so does every byte.

    Args:
        folder: folder of the cache.
        number: number of the shard.
        identity: what the header of each file records.
        settings: encoder and sizes.
    """

    def __init__(
        self, folder: Path, number: int, identity: dict[str, Any], settings: EncoderSettings
    ) -> None:
        self._folder, self._number, self._identity = folder, number, identity
        self._settings = settings
        self._pending: defaultdict[Size, _Pending] = defaultdict(_Pending)
        self.files: list[LatentFile] = []

    def add(self, views: ImageViews) -> None:
        """Add one image; encodes a batch and writes a file when there are enough."""
        height, width = views.images.shape[-2:]
        pending, num_views = self._pending[Size(height, width)], len(views.images)
        pending.waiting.append(views)
        is_full = (pending.count + len(pending.waiting) + 1) * num_views > self._settings.rows
        if is_full or (len(pending.waiting) + 1) * num_views > self._settings.batch:
            self._encode(pending)
        if is_full:
            self._write(Size(height, width), pending)

    def finish(self) -> tuple[LatentFile, ...]:
        """Encode and write what is left; returns all files."""
        for size, pending in self._pending.items():
            if pending.waiting:
                self._encode(pending)
            if pending.count:
                self._write(size, pending)
        return tuple(self.files)

    def _encode(self, pending: _Pending) -> None:
        """Encode the waiting images, at most ``batch`` views at once."""
        images, settings = torch.cat([views.images for views in pending.waiting]), self._settings
        parts = [
            encode_images(settings.encoder, part, settings.device)
            for part in images.split(settings.batch)
        ]
        shape = len(pending.waiting), -1
        tensors = {
            "number": torch.tensor([views.number for views in pending.waiting]),
        }
        for name, moments in stored_moments(cat_moments(parts), settings.dtype).items():
            tensors[name] = moments.unflatten(0, shape)
        for name in pending.waiting[0].control:
            values = [views.control[name] for views in pending.waiting]
            tensors[f"{CONTROL_PREFIX}{name}"] = torch.stack(values)
        pending.encoded.append(tensors)
        pending.count += len(pending.waiting)
        pending.waiting = []

    def _write(self, size: Size, pending: _Pending) -> None:
        tensors = {
            name: torch.cat([part[name] for part in pending.encoded])
            for name in pending.encoded[0]
        }
        name = f"shard-{self._number:05d}-{len(self.files):03d}.safetensors"
        path = self._folder / name
        write_shard(path, tensors, self._identity | {"file": len(self.files)})
        self.files.append(
            LatentFile(
                name=name,
                size=(size.height, size.width),
                images=pending.count,
                num_bytes=path.stat().st_size,
                sha256=file_digest(path),
            )
        )
        pending.encoded, pending.count = [], 0

# SPDX-License-Identifier: Apache-2.0
"""A latent cache while it is built: what is kept of it, what is made, and its manifest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pippin.data.claims import Claims
from pippin.data.config import CacheConfig
from pippin.data.manifest import (
    MANIFEST,
    CacheError,
    Manifest,
    ShardEntry,
    Verify,
    cache_key,
    check_shards,
    load_manifest,
)
from pippin.data.shards import shard_fault, shard_name
from pippin.data.source import PictureSource
from pippin.system.files import file_digest, remove_staged

Say = Callable[[str], None]
"""Called with a sentence for the user."""


def open_finished(folder: Path, ingredients: dict[str, Any], verify: Verify) -> Manifest:
    """The manifest of a finished cache.

    Raises:
        CacheError: unfinished, of other settings, or a shard that is not as the manifest says.
    """
    manifest = load_manifest(folder, ingredients)
    check_shards(folder, manifest, verify)
    return manifest


class CacheSite:
    """A cache that is being built: what is there at first, and the manifest at last.

    Args:
        source: the pictures.
        config: number type, and the shard size of a build that begins here.
        folder: of the cache.
        ingredients: all that decides the content.
        claims: who makes which shard.
        say: told why a cache that was there is not used as it is, and which shards are made again.
    """

    def __init__(
        self,
        source: PictureSource,
        config: CacheConfig,
        folder: Path,
        ingredients: dict[str, Any],
        claims: Claims,
        say: Say,
    ) -> None:
        self.folder, self.claims, self.dtype = folder, claims, getattr(torch, config.dtype)
        self.total = len(source) * source.config.views
        self._shape = {"num_pictures": len(source), "num_views": source.config.views}
        self._wanted_size, self._ingredients, self._say = config.shard_size, ingredients, say
        self._key = cache_key(ingredients)

    def enter(self, verify: Verify) -> Manifest | None:
        """The manifest of a cache that another process has finished; None = take part."""
        while True:
            with self.claims.gate():
                try:
                    return open_finished(self.folder, self._ingredients, verify)
                except CacheError as error:
                    if self.claims.alone():
                        self._begin(str(error))
                        return None
                    if not (self.folder / MANIFEST).exists():
                        self.claims.join()
                        self._say(f"{self.folder} is being built: this process takes part")
                        return None
            self.claims.wait_for_builders()  # they open what they finished; it is damaged already

    def _begin(self, reason: str) -> None:
        """Keep what is whole, clear what is not of this cache, say what is made again."""
        finished = (self.folder / MANIFEST).exists()
        if finished or any(self.folder.glob("shard-*")):
            self._say(reason)
        ranges = self.ranges(self._wanted_size)
        for path in self._shards():
            shard_fault(path, {}, checksum=False)  # refuses those of a newer version
        self._clear(len(ranges))
        whole = []
        for number, rows in enumerate(ranges):
            path = self.path(number)
            fault = shard_fault(path, self.identity(rows))
            whole.append(fault is None)
            if fault is not None and (finished or path.exists()):
                self._say(f"{path} is {fault}: it is made again")
        self.claims.begin(self._wanted_size, whole)

    def _clear(self, num_shards: int) -> None:
        """Remove what a stopped or differently sharded build left behind."""
        wanted = {shard_name(number) for number in range(num_shards)}
        (self.folder / MANIFEST).unlink(missing_ok=True)
        remove_staged(self.folder)
        for path in self._shards():
            if path.name not in wanted:
                path.unlink()

    def _shards(self) -> list[Path]:
        """All shards that are there, of whatever build."""
        return sorted(self.folder.glob("shard-[0-9][0-9][0-9][0-9][0-9]*.safetensors"))

    def ranges(self, size: int) -> list[range]:
        """The rows of each shard."""
        return [range(a, min(a + size, self.total)) for a in range(0, self.total, size)]

    def identity(self, rows: range) -> dict[str, Any]:
        """What a shard with these rows is."""
        return {"key": self._key, "first_row": rows.start, "end_row": rows.stop}

    def path(self, number: int) -> Path:
        """Where a shard stands."""
        return self.folder / shard_name(number)

    def finish(self) -> Manifest:
        """Write the manifest, unless another builder has; all shards are whole."""
        with self.claims.gate():
            if (self.folder / MANIFEST).exists():
                return open_finished(self.folder, self._ingredients, "size")
            remove_staged(self.folder)  # of builders that were killed
            manifest = self._manifest()
            manifest.save(self.folder / MANIFEST)
            return manifest

    def _manifest(self) -> Manifest:
        entries = []
        for number, rows in enumerate(self.ranges(self.claims.shard_size)):
            path = self.path(number)
            entries.append(
                ShardEntry(
                    name=path.name,
                    first_row=rows.start,
                    end_row=rows.stop,
                    num_bytes=path.stat().st_size,
                    sha256=file_digest(path),
                )
            )
        return Manifest(
            key=self._key,
            ingredients=self._ingredients,
            shard_size=self.claims.shard_size,
            shards=tuple(entries),
            **self._shape,
        )

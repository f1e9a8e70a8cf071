# SPDX-License-Identifier: Apache-2.0
"""State of a latent cache during its build: kept shards, missing shards, and the manifest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pippin.data.cache.manifest import (
    MANIFEST,
    CacheError,
    Manifest,
    ShardEntry,
    Verify,
    cache_key,
    check_shards,
    load_manifest,
    shard_fault,
    shard_name,
)
from pippin.data.cache.shard_claims import ShardClaims
from pippin.data.config import CacheConfig
from pippin.data.source import ImageSource
from pippin.system.files import file_digest, remove_temporary_files

Say = Callable[[str], None]
"""Callback for a message to the user."""


def open_finished(folder: Path, ingredients: dict[str, Any], verify: Verify) -> Manifest:
    """Manifest of a finished cache.

    Raises:
        CacheError: unfinished, built with other settings, or a shard differs from the manifest.
    """
    manifest = load_manifest(folder, ingredients)
    check_shards(folder, manifest, verify)
    return manifest


class CacheBuildState:
    """Cache that is being built.

    Args:
        source: the images.
        config: shard size of a new build.
        folder: folder of the cache.
        ingredients: everything that determines the content.
        claims: the locks of the shards.
        say: called with the reason why an existing cache is not used as it is, and with the names
            of shards that are rebuilt.
    """

    def __init__(
        self,
        source: ImageSource,
        config: CacheConfig,
        folder: Path,
        ingredients: dict[str, Any],
        claims: ShardClaims,
        say: Say,
    ) -> None:
        self.folder, self.claims = folder, claims
        self.total = len(source) * source.config.views
        self._shape = {"num_pictures": len(source), "num_views": source.config.views}
        self._shard_size, self._ingredients, self._say = config.shard_size, ingredients, say
        self._key = cache_key(ingredients)

    def enter(self, verify: Verify) -> Manifest | None:
        """Manifest of a cache that another process has finished; None = join the build."""
        while True:
            with self.claims.exclusive():
                try:
                    return open_finished(self.folder, self._ingredients, verify)
                except CacheError as error:
                    if self.claims.is_only_builder():
                        self._begin(str(error))
                        return None
                    if not (self.folder / MANIFEST).exists():
                        self.claims.join_build()
                        self._say(f"{self.folder} is being built: this process joins the build")
                        return None
            self.claims.wait_for_builders()  # the finished cache is damaged

    def _begin(self, reason: str) -> None:
        """Keep complete shards, remove files of other builds, report shards that are rebuilt."""
        finished = (self.folder / MANIFEST).exists()
        if finished or any(self.folder.glob("shard-*")):
            self._say(reason)
        ranges = self.ranges(self._shard_size)
        for path in self._shards():
            shard_fault(path, {}, checksum=False)  # rejects shards of a newer version
        self._clear(len(ranges))
        complete = []
        for number, rows in enumerate(ranges):
            path = self.path(number)
            fault = shard_fault(path, self.identity(rows))
            complete.append(fault is None)
            if fault is not None and (finished or path.exists()):
                self._say(f"{path} is {fault}: it is rebuilt")
        self.claims.start_build(self._shard_size, complete)

    def _clear(self, num_shards: int) -> None:
        """Remove files of a stopped build or of a build with another shard size."""
        expected = {shard_name(number) for number in range(num_shards)}
        (self.folder / MANIFEST).unlink(missing_ok=True)
        remove_temporary_files(self.folder)
        for path in self._shards():
            if path.name not in expected:
                path.unlink()

    def _shards(self) -> list[Path]:
        """All shard files in the folder, of any build."""
        return sorted(self.folder.glob("shard-[0-9][0-9][0-9][0-9][0-9]*.safetensors"))

    def ranges(self, size: int) -> list[range]:
        """Rows of each shard."""
        return [range(a, min(a + size, self.total)) for a in range(0, self.total, size)]

    def identity(self, rows: range) -> dict[str, Any]:
        """Identity of the shard with these rows."""
        return {"key": self._key, "first_row": rows.start, "end_row": rows.stop}

    def path(self, number: int) -> Path:
        """Path of a shard."""
        return self.folder / shard_name(number)

    def finish(self) -> Manifest:
        """Write the manifest unless another builder has; all shards must be complete."""
        with self.claims.exclusive():
            if (self.folder / MANIFEST).exists():
                return open_finished(self.folder, self._ingredients, "size")
            remove_temporary_files(self.folder)  # of builders that were killed
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

# SPDX-License-Identifier: Apache-2.0
"""Build of a latent cache straight from shards, by any number of processes; resumable by shard."""

from pathlib import Path

import torch

from pippin.config import ConfigError
from pippin.data.cache.build_state import Say
from pippin.data.cache.latent_writer import EncoderSettings, LatentWriter
from pippin.data.cache.manifest import MANIFEST, Verify
from pippin.data.cache.shard_claims import Ready, ShardClaims
from pippin.data.cache.streamed import (
    LatentShard,
    StreamedManifest,
    shard_record,
    streamed_folder,
    streamed_ingredients,
)
from pippin.data.config import CacheConfig, ImagesConfig
from pippin.data.folder.image_table import has_table
from pippin.data.importing.config import ShardsConfig
from pippin.data.importing.import_sources import Shard
from pippin.data.importing.parts import write_part
from pippin.data.moments import Encoder
from pippin.data.streaming.reading import content_of, read_streamed_part, stream_shard
from pippin.data.streaming.shard_source import ShardSource, open_source, source_identity
from pippin.data.streaming.tables import write_tables
from pippin.system.files import make_folder, remove_temporary_files
from pippin.system.progress import ProgressCallback

ENCODE_BATCH = 32
"""Number of views encoded at once."""
MAX_NAMED = 5
"""Number of unreadable shards that an error names."""


def build_streamed(
    config: ShardsConfig,
    data: ImagesConfig,
    cache: CacheConfig,
    encoder: Encoder,
    *,
    device: torch.device | str = "cpu",
    threads: int = 0,
    verify: Verify = "sha256",
    progress: ProgressCallback | None = None,
    say: Say | None = None,
    ready: Ready | None = None,
) -> Path:
    """Encode all shards of a source, or finish a build that was stopped; returns the cache folder.

    Any number of processes may call this with the same settings. They share the work by shard, and
    another process takes over the shard of a killed one. No byte depends on their number.

    Args:
        config: source and columns.
        data: settings of the views; ``path`` is a new folder, or that of an earlier call.
        cache: folder, number type, and number of views in one file.
        encoder: on ``device``.
        device: device of the encoder.
        threads: number of threads that decode images; 0 = this one.
        verify: check of complete shards.
        progress: called after each shard with the number that all processes have finished.
        say: called with a message for each shard that is rebuilt or cannot be read.
        ready: called with the number of missing shards, once existing ones have been checked.

    Raises:
        ConfigError: no such source or column, shards that cannot be read (the others are
            complete), or a folder with other content.
        OSError: the disk is full or not writable; complete shards are kept.
    """
    with open_source(config, Path(data.path)) as source:
        identity = source_identity(config, source.columns)
        ingredients = streamed_ingredients(data, encoder, cache, identity)
        folder = streamed_folder(cache, ingredients)
        make_folder(folder)
        settings = EncoderSettings(
            encoder=encoder,
            device=device,
            dtype=getattr(torch, cache.dtype),
            batch=ENCODE_BATCH,
            rows=cache.shard_size,
        )
        manifest = StreamedManifest(
            key=folder.name, ingredients=ingredients, num_views=data.views, shards=()
        )
        builder = _Builder(
            source, data, folder, manifest, settings, threads, say or (lambda text: None)
        )
        builder.build(
            verify, progress or (lambda done, total: None), ready or (lambda missing: None)
        )
    return folder


class _Builder:
    """One process that encodes shards."""

    def __init__(
        self,
        source: ShardSource,
        data: ImagesConfig,
        folder: Path,
        manifest: StreamedManifest,
        settings: EncoderSettings,
        threads: int,
        say: Say,
    ) -> None:
        self.source, self.data, self.folder, self.manifest = source, data, folder, manifest
        self.settings, self.threads, self.say = settings, threads, say
        self.failed: dict[int, str] = {}
        """Shards that this process cannot read, with the reason."""

    def build(self, verify: Verify, progress: ProgressCallback, ready: Ready) -> None:
        """Encode shards until none is missing; wait for those of other processes."""
        total = len(self.source.shards)
        with ShardClaims(self.folder) as claims:
            self._enter(claims, verify)
            ready(len(claims.missing()))
            progress(claims.rows_done(total), total)
            while any(number not in self.failed for number in claims.missing()):
                if not self._build_unclaimed(claims, progress):
                    claims.wait_for_shard(self.failed)
                    progress(claims.rows_done(total), total)
            self._refuse_failed()
            with claims.exclusive():
                self._finish()

    def _enter(self, claims: ShardClaims, verify: Verify) -> None:
        """Start the build after a check of existing shards, or join a running build."""
        with claims.exclusive():
            if not claims.is_only_builder():
                claims.join_build()
                return
            remove_temporary_files(self.folder)  # of builders that were killed
            complete = [self._is_complete(shard, verify) for shard in self.source.shards]
            if not all(complete):
                (self.folder / MANIFEST).unlink(missing_ok=True)
            claims.start_build(1, complete)

    def _is_complete(self, shard: Shard, verify: Verify) -> bool:
        """True if a shard has a record of its images and a matching one of its latents."""
        part, path = read_streamed_part(shard, self.source.folder), self._record(shard)
        if not path.is_file():
            return False
        try:
            record = LatentShard.load(path)
        except ConfigError as error:
            self.say(f"{path} is damaged ({error}): the shard is encoded again")
            return False
        if fault := record.fault(self.folder, verify):
            self.say(f"{fault}: the shard is encoded again")
            return False
        same = (record.key, record.of) == (self.manifest.key, shard.identity)
        return part is not None and same and record.content == content_of(part)

    def _build_unclaimed(self, claims: ShardClaims, progress: ProgressCallback) -> bool:
        """Encode the shards that no other process encodes; False if there was none."""
        any_claimed, total = False, len(self.source.shards)
        for number in claims.claim_missing(self.failed):
            any_claimed = True
            try:
                with self.source.claims.claimed(number):
                    self._encode(self.source.shards[number])
            except ConfigError as error:
                claims.release(number)
                self.failed[number] = str(error)
                self.say(f"{error}")
            else:
                claims.mark_done(number)
            progress(claims.rows_done(total), total)
        return any_claimed

    def _encode(self, shard: Shard) -> None:
        """Encode one shard; its records are written last."""
        self._record(shard).unlink(missing_ok=True)
        identity = {"key": self.manifest.key, "shard": shard.identity}
        writer = LatentWriter(self.folder, shard.index, identity, self.settings)
        part = stream_shard(self.source, shard, self.data, writer.add, threads=self.threads)
        files = writer.finish()
        write_part(part, shard, self.source.folder)
        LatentShard(
            key=self.manifest.key, of=shard.identity, content=content_of(part), files=files
        ).save(self._record(shard))

    def _record(self, shard: Shard) -> Path:
        return self.folder / shard_record(shard.index)

    def _refuse_failed(self) -> None:
        if not self.failed:
            return
        named = "\n".join(f"  {reason}" for reason in list(self.failed.values())[:MAX_NAMED])
        more = len(self.failed) - MAX_NAMED
        raise ConfigError(
            f"{len(self.failed)} of {len(self.source.shards)} shards cannot be read; the others "
            f"are complete:\n{named}{f'{chr(10)}  and {more} more' if more > 0 else ''}\nrun the "
            "same command again to try these again, or leave them out of --shards.source and give "
            "a new --data.path"
        )

    def _finish(self) -> None:
        """Write the tables and the manifest unless another builder has."""
        if (self.folder / MANIFEST).exists() and has_table(self.source.folder):
            return
        remove_temporary_files(self.folder)  # of builders that were killed
        with self.source.claims.exclusive():
            write_tables(self.source, self.data)
        records = tuple(LatentShard.load(self._record(shard)) for shard in self.source.shards)
        StreamedManifest(**{**vars(self.manifest), "shards": records}).save(self.folder / MANIFEST)

# SPDX-License-Identifier: Apache-2.0
"""Cached caption features in memory-mapped shards."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from pippin.data.cache.casting import cast
from pippin.data.cache.manifest import Verify, read_shard, shard_fault, shard_name, write_shard
from pippin.data.cache.shard_claims import Ready, ShardClaims
from pippin.system.files import make_folder, remove_temporary_files
from pippin.system.progress import ProgressCallback
from pippin.types import TextFeatures, TruncatedCaption

SHARD = 2048
"""Number of captions in a shard."""
BATCH = 64
"""Number of captions encoded at once."""
CUT = "cut"
"""Shard column of flags: True for captions that are truncated."""


@runtime_checkable
class CaptionEncoder(Protocol):
    """Interface of a text encoder."""

    def encode(self, captions: Sequence[str], num_tokens: int) -> TextFeatures:
        """Token features at every position, mask of a caption's own tokens, pooled vector."""
        ...

    def truncated(self, captions: Sequence[str], num_tokens: int) -> Sequence[TruncatedCaption]:
        """Captions that are truncated to ``num_tokens``."""
        ...


class CaptionBank:
    """Features of a set of captions; a row is the index of a caption in sorted order.

    Args:
        folder: folder with the shards of all captions.
        captions: the captions, sorted.
    """

    def __init__(self, folder: Path, captions: Sequence[str]) -> None:
        self.folder = folder
        self._rows = {caption: row for row, caption in enumerate(captions)}
        count = -(-len(captions) // SHARD)
        self._shards = [read_shard(folder / shard_name(number)) for number in range(count)]

    def rows(self, captions: Sequence[str]) -> Int[Tensor, " captions"]:
        """Row of each caption.

        Raises:
            KeyError: a caption is not in the bank.
        """
        return torch.tensor([self._rows[caption] for caption in captions])

    def fetch(self, rows: Int[Tensor, " batch"]) -> TextFeatures:
        """Features of rows, on the CPU in fp32."""
        places = [divmod(row, SHARD) for row in rows.tolist()]

        def column(name: str) -> Tensor | None:
            if name not in self._shards[0]:
                return None
            return torch.stack([self._shards[shard][name][place] for shard, place in places])

        tokens, mask, pooled = column("tokens"), column("mask"), column("pooled")
        return TextFeatures(
            tokens=None if tokens is None else tokens.float(),
            mask=mask,
            pooled=None if pooled is None else pooled.float(),
        )

    def is_truncated(self) -> Bool[Tensor, " captions"] | None:
        """Flag of each row, True for a truncated caption. None if unknown: shards of older
        versions have no flags, and their captions may fill all positions."""
        flags = []
        for shard in self._shards:
            if CUT in shard:
                flags.append(shard[CUT])
            elif "mask" in shard and not (fills_positions := shard["mask"].all(dim=1)).any():
                flags.append(fills_positions)
            else:
                return None
        return torch.cat(flags)


def build_bank(
    captions: Sequence[str],
    encoder: Callable[[], CaptionEncoder],
    *,
    folder: Path,
    fingerprint: str,
    num_tokens: int,
    dtype: torch.dtype,
    verify: Verify = "sha256",
    progress: ProgressCallback | None = None,
    ready: Ready | None = None,
) -> CaptionBank:
    """Encode missing captions and open the bank.

    Any number of processes may call this with the same captions. They share the work: one process
    encodes each shard.

    Args:
        captions: captions in any order; duplicates are allowed.
        encoder: called only if captions must be encoded.
        folder: folder of all caches; the bank is a subfolder named by its key.
        fingerprint: fingerprint of the encoder.
        num_tokens: number of token positions.
        dtype: type of the features on disk.
        verify: check of a bank with all shards: ``sha256`` compares checksums; ``size`` reads
            headers only, for use when another process compares. An incomplete bank is always
            checked in full.
        progress: called with the number of captions encoded by all processes, and the total.
        ready: called with the number of missing shards, once existing shards have been checked.

    Raises:
        OSError: disk full or not writable; finished shards are kept and reused.
        ValueError: a feature is not finite, or beyond the range of the type on disk.
    """
    ordered, ready = sorted(set(captions)), ready or (lambda missing: None)
    ingredients = {
        "encoder": fingerprint,
        "num_tokens": num_tokens,
        "dtype": str(dtype).removeprefix("torch."),
        "captions": hashlib.sha256(json.dumps(ordered).encode()).hexdigest(),
    }
    key = hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()[:16]
    builder = _Builder(folder / f"text-{key}", ordered, ingredients, progress)
    if all(builder.is_complete(number, verify) for number in range(builder.num_shards)):
        ready(0)
    else:
        builder.build(encoder, num_tokens, dtype, ready)
    return CaptionBank(builder.folder, ordered)


class _Builder:
    """One process that encodes shards of a bank."""

    def __init__(
        self,
        folder: Path,
        captions: Sequence[str],
        ingredients: dict[str, Any],
        progress: ProgressCallback | None,
    ) -> None:
        self.folder, self.captions, self.ingredients = folder, captions, ingredients
        self.progress = progress or (lambda done, total: None)
        self.num_shards = -(-len(captions) // SHARD)

    def is_complete(self, number: int, verify: Verify) -> bool:
        """True if a valid shard exists."""
        path, identity = self.folder / shard_name(number), self.identity(number)
        return shard_fault(path, identity, checksum=verify == "sha256") is None

    def identity(self, number: int) -> dict[str, Any]:
        """Identity of a shard."""
        return {**self.ingredients, "start": number * SHARD, "count": len(self.part(number))}

    def part(self, number: int) -> Sequence[str]:
        """Captions of a shard."""
        return self.captions[number * SHARD : (number + 1) * SHARD]

    def build(
        self,
        encoder: Callable[[], CaptionEncoder],
        num_tokens: int,
        dtype: torch.dtype,
        ready: Ready,
    ) -> None:
        """Encode shards until none is missing; wait for shards of other processes."""
        make_folder(self.folder)
        model = None
        with ShardClaims(self.folder) as claims:
            self._enter(claims)
            ready(len(claims.missing()))
            while claims.missing():
                any_claimed = False
                for number in claims.claim_missing():
                    model, any_claimed = model or encoder(), True
                    tensors = self._encode(model, number, num_tokens, dtype, claims)
                    write_shard(self.folder / shard_name(number), tensors, self.identity(number))
                    claims.mark_done(number)
                if not any_claimed:
                    claims.wait_for_shard()
            with claims.exclusive():
                remove_temporary_files(self.folder)  # of builders that were killed

    def _enter(self, claims: ShardClaims) -> None:
        """Start the build after a check of existing shards, or join a running build.

        Only shards with a matching checksum count as done. Damaged shards are removed at once,
        because other processes read headers only and would accept them.
        """
        with claims.exclusive():
            if not claims.is_only_builder():
                claims.join_build()
                return
            remove_temporary_files(self.folder)
            complete = [self.is_complete(number, "sha256") for number in range(self.num_shards)]
            for number, shard_is_complete in enumerate(complete):
                if not shard_is_complete:
                    (self.folder / shard_name(number)).unlink(missing_ok=True)
            claims.start_build(SHARD, complete)

    def _encode(
        self,
        encoder: CaptionEncoder,
        number: int,
        num_tokens: int,
        dtype: torch.dtype,
        claims: ShardClaims,
    ) -> dict[str, Tensor]:
        """Tensors of one shard."""
        captions, total, parts = self.part(number), len(self.captions), []
        cut: set[str] = set()
        for first in range(0, len(captions), BATCH):
            batch = captions[first : first + BATCH]
            parts.append(encoder.encode(batch, num_tokens))
            cut |= {truncated.caption for truncated in encoder.truncated(batch, num_tokens)}
            done = min(first + BATCH, len(captions))
            self.progress(claims.rows_done(total) + done, total)
        columns = {
            "tokens": [part.tokens for part in parts],
            "mask": [part.mask for part in parts],
            "pooled": [part.pooled for part in parts],
        }
        tensors = {CUT: torch.tensor([caption in cut for caption in captions])}
        for name, values in columns.items():
            present = [value for value in values if value is not None]
            if present:
                column = torch.cat(present)
                if name != "mask":
                    column = cast(column, dtype, "features of captions", "text.dtype")
                tensors[name] = column
        return tensors

# SPDX-License-Identifier: Apache-2.0
"""Features of captions, encoded once and read from shards by memory map."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from pippin.data.claims import Claims, Ready
from pippin.data.manifest import Verify
from pippin.data.shards import read_shard, shard_fault, shard_name, write_shard
from pippin.system.files import remove_staged
from pippin.system.flush import make_folder
from pippin.types import CutCaption, TextFeatures

SHARD = 2048
"""Captions in a shard."""
BATCH = 64
"""Captions that are encoded at once."""
CUT = "cut"
"""The column of a shard that says which captions have more tokens than are read."""
Progress = Callable[[int, int], None]


@runtime_checkable
class CaptionEncoder(Protocol):
    """What data needs of a text encoder."""

    def encode(self, captions: Sequence[str], num_tokens: int) -> TextFeatures:
        """Tokens of every place, mask of a caption's own, pooled vector."""
        ...

    def cuts(self, captions: Sequence[str], num_tokens: int) -> Sequence[CutCaption]:
        """The captions that have more tokens than are read."""
        ...


class CaptionBank:
    """Features of a set of captions; a row is a caption's place in sorted order.

    Args:
        folder: with the shards of all captions.
        captions: in order.
    """

    def __init__(self, folder: Path, captions: Sequence[str]) -> None:
        self.folder = folder
        self._rows = {caption: row for row, caption in enumerate(captions)}
        count = -(-len(captions) // SHARD)
        self._shards = [read_shard(folder / shard_name(number)) for number in range(count)]

    def rows(self, captions: Sequence[str]) -> Int[Tensor, " captions"]:
        """The row of each caption.

        Raises:
            KeyError: a caption that the bank was not made of.
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

    def is_cut(self) -> Bool[Tensor, " captions"] | None:
        """Of each row, whether the caption has more tokens than are read. None where that is not
        known: a shard that was written before it was kept, with captions that fill all places."""
        found = []
        for shard in self._shards:
            if CUT in shard:
                found.append(shard[CUT])
            elif "mask" in shard and not (full := shard["mask"].all(dim=1)).any():
                found.append(full)
            else:
                return None
        return torch.cat(found)


def build_bank(
    captions: Sequence[str],
    encoder: Callable[[], CaptionEncoder],
    *,
    folder: Path,
    fingerprint: str,
    num_tokens: int,
    dtype: torch.dtype,
    verify: Verify = "sha256",
    progress: Progress | None = None,
    ready: Ready | None = None,
) -> CaptionBank:
    """Encode what is not there yet, and open the bank.

    Any number of processes that call this with the same captions share the work, each shard made
    by one of them.

    Args:
        captions: in any order, repeated or not.
        encoder: made only where something is to be encoded.
        folder: of all caches; the bank is a folder in it, named by what it is made of.
        fingerprint: of the encoder.
        num_tokens: places of a caption.
        dtype: of the features on disk.
        verify: of a bank whose shards are all there: ``sha256`` compares their checksums; ``size``
            reads heads only, where another process compares. A bank that lacks one is read whole.
        progress: told of captions done, by all processes, and in all.
        ready: told how many shards are missing, when what is there has been checked.

    Raises:
        OSError: disk full or not writable; finished shards stay and are used again.
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
    if all(builder.whole(number, verify) for number in range(builder.num_shards)):
        ready(0)
    else:
        builder.build(encoder, num_tokens, dtype, ready)
    return CaptionBank(builder.folder, ordered)


class _Builder:
    """One process that makes shards of a bank."""

    def __init__(
        self,
        folder: Path,
        captions: Sequence[str],
        ingredients: dict[str, Any],
        progress: Progress | None,
    ) -> None:
        self.folder, self.captions, self.ingredients = folder, captions, ingredients
        self.progress = progress or (lambda done, total: None)
        self.num_shards = -(-len(captions) // SHARD)

    def whole(self, number: int, verify: Verify) -> bool:
        """Whether a shard is there."""
        path, identity = self.folder / shard_name(number), self.identity(number)
        return shard_fault(path, identity, checksum=verify == "sha256") is None

    def identity(self, number: int) -> dict[str, Any]:
        """What a shard is."""
        return {**self.ingredients, "start": number * SHARD, "count": len(self.part(number))}

    def part(self, number: int) -> Sequence[str]:
        """The captions of a shard."""
        return self.captions[number * SHARD : (number + 1) * SHARD]

    def build(
        self,
        encoder: Callable[[], CaptionEncoder],
        num_tokens: int,
        dtype: torch.dtype,
        ready: Ready,
    ) -> None:
        """Make shards until none is missing; wait for those that other processes make."""
        make_folder(self.folder)
        made = None
        with Claims(self.folder) as claims:
            self._enter(claims)
            ready(len(claims.missing()))
            while claims.missing():
                found = False
                for number in claims.free():
                    made, found = made or encoder(), True
                    tensors = self._encoded(made, number, num_tokens, dtype, claims)
                    write_shard(self.folder / shard_name(number), tensors, self.identity(number))
                    claims.done(number)
                if not found:
                    claims.wait()
            with claims.gate():
                remove_staged(self.folder)  # of builders that were killed

    def _enter(self, claims: Claims) -> None:
        """Be the first builder, which reads what is there, or join others.

        Whoever that is, only content with the right checksum counts as done. A damaged shard goes
        at once: others, which look at heads only, must not take it for a whole one meanwhile.
        """
        with claims.gate():
            if not claims.alone():
                claims.join()
                return
            remove_staged(self.folder)
            whole = [self.whole(number, "sha256") for number in range(self.num_shards)]
            for number, one in enumerate(whole):
                if not one:
                    (self.folder / shard_name(number)).unlink(missing_ok=True)
            claims.begin(SHARD, whole)

    def _encoded(
        self,
        encoder: CaptionEncoder,
        number: int,
        num_tokens: int,
        dtype: torch.dtype,
        claims: Claims,
    ) -> dict[str, Tensor]:
        """The tensors of one shard."""
        captions, total, parts = self.part(number), len(self.captions), []
        cut: set[str] = set()
        for first in range(0, len(captions), BATCH):
            batch = captions[first : first + BATCH]
            parts.append(encoder.encode(batch, num_tokens))
            cut |= {one.caption for one in encoder.cuts(batch, num_tokens)}
            here = min(first + BATCH, len(captions))
            self.progress(claims.rows_done(total) + here, total)
        columns = {
            "tokens": [part.tokens for part in parts],
            "mask": [part.mask for part in parts],
            "pooled": [part.pooled for part in parts],
        }
        found = {CUT: torch.tensor([caption in cut for caption in captions])}
        for name, values in columns.items():
            present = [value for value in values if value is not None]
            if present:
                column = torch.cat(present)
                found[name] = column if name == "mask" else column.to(dtype)
        return found

# SPDX-License-Identifier: Apache-2.0
"""Deterministic parts of a set: by hashes of names, so that no seed and no order enters."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def fraction(text: str) -> float:
    """The first 8 bytes of SHA-256 of a text, read as a fraction of one, in [0, 1]."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def held_out(keys: Iterable[str], share: float) -> set[str]:
    """The keys that are held out: those with a fraction below the share.

    Keys come and go without moving others. Only where one side would be empty the smallest (or
    largest) fraction changes side, so that two keys suffice for both.
    """
    fractions = {key: fraction(f"images/{key}") for key in keys}
    ranked = sorted(fractions, key=fractions.__getitem__)
    count = sum(fractions[key] < share for key in ranked)
    return set(ranked[: min(max(count, 1), len(ranked) - 1)])


def fixed_subset(items: Sequence[T], count: int | None, key: Callable[[T], str]) -> list[T]:
    """The ``count`` items with the smallest hashes, in their own order: a mixture of classes."""
    if count is None:
        return list(items)
    ranked = sorted(items, key=lambda item: hashlib.sha256(key(item).encode()).digest())
    chosen = {key(item) for item in ranked[:count]}
    return [item for item in items if key(item) in chosen]

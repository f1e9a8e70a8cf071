# SPDX-License-Identifier: Apache-2.0
"""Deterministic splits and subsets by hashes of names, independent of seed and order."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def hash_fraction(text: str) -> float:
    """First 8 bytes of the SHA-256 of a text as a fraction in [0, 1]."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def held_out_keys(keys: Iterable[str], share: float) -> set[str]:
    """Held-out keys: those with a hash fraction below the share.

    New keys do not move other keys. If one split would be empty, the key with the smallest (or
    largest) fraction changes its split, so two keys suffice for both splits.
    """
    fractions = {key: hash_fraction(f"images/{key}") for key in keys}
    ranked = sorted(fractions, key=fractions.__getitem__)
    count = sum(fractions[key] < share for key in ranked)
    return set(ranked[: min(max(count, 1), len(ranked) - 1)])


def fixed_subset(items: Sequence[T], count: int | None, key: Callable[[T], str]) -> list[T]:
    """The ``count`` items with the smallest hashes, in their original order: a mixture of
    classes."""
    if count is None:
        return list(items)
    ranked = sorted(items, key=lambda item: hashlib.sha256(key(item).encode()).digest())
    chosen = {key(item) for item in ranked[:count]}
    return [item for item in items if key(item) in chosen]

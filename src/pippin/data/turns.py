# SPDX-License-Identifier: Apache-2.0
"""Which bucket each training step draws from.

Buckets take turns in proportion to their pictures: with n_b pictures of N, after s steps bucket b
has had s n_b / N turns, never off by one or more. Turn j of a bucket may come from step
floor(j N / n_b) on and must come before step ceil((j + 1) N / n_b); of those that may come, the
most urgent does. On one machine that order keeps every deadline (Baruah et al. 1996,
"Proportionate progress"). It is a matter of whole numbers only and repeats after
N / gcd(n_1, n_2, ...) steps, so that any step is found without those before that round.
"""

import math
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple


class Turn(NamedTuple):
    """One step's."""

    step: int
    bucket: int
    """A place in the list of buckets."""
    number: int
    """How many turns the bucket has had before."""


def turns(pictures: Sequence[int], first: int = 0) -> Iterator[Turn]:
    """The turns of steps ``first``, ``first`` + 1, ... without end.

    Args:
        pictures: n_b, of each bucket; all positive.
        first: number of the first step, from 0.
    """
    common = math.gcd(*pictures)
    shares = [n // common for n in pictures]
    length = sum(shares)
    rounds = first // length
    given = [rounds * share for share in shares]
    waiting = [(rounds * length, bucket) for bucket in range(len(shares))]  # may come from, bucket
    urgent: list[tuple[int, int]] = []  # must come before, bucket
    for step in count(rounds * length):
        while waiting and waiting[0][0] <= step:
            _, bucket = heappop(waiting)
            heappush(urgent, (-(-(given[bucket] + 1) * length // shares[bucket]), bucket))
        _, bucket = heappop(urgent)
        if step >= first:
            yield Turn(step, bucket, given[bucket])
        given[bucket] += 1
        heappush(waiting, (given[bucket] * length // shares[bucket], bucket))

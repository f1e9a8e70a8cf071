# SPDX-License-Identifier: Apache-2.0
"""Schedule of aspect-ratio buckets: the bucket of each training step.

Buckets take turns in proportion to their numbers of images: with n_b images of N, bucket b has
had s n_b / N turns after s steps, with an error below one. Turn j of a bucket is released at step
floor(j N / n_b) and has its deadline at step ceil((j + 1) N / n_b). Each step takes the released
turn with the earliest deadline. On one machine that order meets every deadline (Baruah et al.
1996, "Proportionate progress"). The schedule uses integers only and repeats after
N / gcd(n_1, n_2, ...) steps, so any step can be computed without earlier rounds.
"""

import math
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple


class BucketTurn(NamedTuple):
    """Turn of a bucket at one step."""

    step: int
    bucket: int
    """Index into the list of buckets."""
    number: int
    """Number of earlier turns of the bucket."""


def bucket_turns(image_counts: Sequence[int], first: int = 0) -> Iterator[BucketTurn]:
    """Infinite iterator over the turns of steps ``first``, ``first`` + 1, ...

    Args:
        image_counts: n_b of each bucket; all positive.
        first: index of the first step, from 0.
    """
    common = math.gcd(*image_counts)
    shares = [n // common for n in image_counts]
    length = sum(shares)
    rounds = first // length
    num_turns = [rounds * share for share in shares]
    waiting = [(rounds * length, bucket) for bucket in range(len(shares))]  # release step, bucket
    urgent: list[tuple[int, int]] = []  # deadline, bucket
    for step in count(rounds * length):
        while waiting and waiting[0][0] <= step:
            _, bucket = heappop(waiting)
            heappush(urgent, (-(-(num_turns[bucket] + 1) * length // shares[bucket]), bucket))
        _, bucket = heappop(urgent)
        if step >= first:
            yield BucketTurn(step, bucket, num_turns[bucket])
        num_turns[bucket] += 1
        heappush(waiting, (num_turns[bucket] * length // shares[bucket], bucket))

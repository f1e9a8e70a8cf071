# SPDX-License-Identifier: Apache-2.0
import itertools
import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pippin.data.views.buckets import BucketTurn, bucket_turns

counts = st.lists(st.integers(1, 60) | st.integers(1, 10**7), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(counts)
def test_no_bucket_is_ever_off_by_a_whole_turn(image_counts: list[int]) -> None:
    total, given_turns = sum(image_counts), [0] * len(image_counts)
    for step, turn in enumerate(itertools.islice(bucket_turns(image_counts), 300)):
        assert turn == BucketTurn(step, turn.bucket, given_turns[turn.bucket])
        given_turns[turn.bucket] += 1
        for had, n in zip(given_turns, image_counts, strict=True):
            assert abs(had - Fraction((step + 1) * n, total)) < 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 400))
def test_any_step_is_found_without_those_before(image_counts: list[int], first: int) -> None:
    whole = list(itertools.islice(bucket_turns(image_counts), first + 40))
    assert list(itertools.islice(bucket_turns(image_counts, first), 40)) == whole[first:]


@pytest.mark.parametrize("image_counts", [[5], [3, 3, 3], [4, 6, 10], [1, 97], [12, 1, 7, 7, 31]])
def test_a_round_gives_each_bucket_its_share_exactly(image_counts: list[int]) -> None:
    common = math.gcd(*image_counts)
    length = sum(image_counts) // common
    had = Counter(turn.bucket for turn in itertools.islice(bucket_turns(image_counts), length))
    assert [had[bucket] * common for bucket in range(len(image_counts))] == image_counts


def test_a_late_step_of_buckets_that_share_nothing_is_far_and_right() -> None:
    turn = next(bucket_turns([7, 11, 13], 10**12 + 3))
    assert turn.step == 10**12 + 3
    assert abs(turn.number - Fraction(turn.step * [7, 11, 13][turn.bucket], 31)) < 1

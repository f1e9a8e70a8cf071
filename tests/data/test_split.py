# SPDX-License-Identifier: Apache-2.0
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from pippin.data.source import fixed_subset, hash_fraction, held_out_keys

NAMES = [f"class/{number}.png" for number in range(2000)]


def test_a_fraction_is_that_of_the_documented_bytes() -> None:
    digest = hashlib.sha256(b"images/a.png").hexdigest()
    assert hash_fraction("images/a.png") == int(digest[:16], 16) / 16**16


def test_the_share_is_met_within_sampling_error() -> None:
    for share in (0.1, 0.3):
        count = len(held_out_keys(NAMES, share))
        assert abs(count - 2000 * share) < 4 * (2000 * share * (1 - share)) ** 0.5


@given(st.sets(st.sampled_from(NAMES), min_size=100), st.sets(st.sampled_from(NAMES)))
def test_other_keys_move_none(some: set[str], others: set[str]) -> None:
    out = held_out_keys(some, 0.3)
    assert 0 < len(out) < len(some)
    assert held_out_keys(some | others, 0.3) & some == out


def test_a_larger_share_only_adds() -> None:
    assert held_out_keys(NAMES, 0.1) < held_out_keys(NAMES, 0.2)


@given(st.sets(st.text(), min_size=2, max_size=4), st.floats(0.001, 0.999))
def test_two_keys_suffice_for_both_sides(keys: set[str], share: float) -> None:
    keys = {key.encode("utf-8", "ignore").decode() for key in keys} | {"a", "b"}
    assert 0 < len(held_out_keys(keys, share)) < len(keys)


def test_one_key_is_trained_on() -> None:
    assert held_out_keys(["a"], 0.5) == set()


def test_a_subset_keeps_order_and_nests() -> None:
    small, large = (fixed_subset(NAMES, count, str) for count in (10, 30))
    assert len(small) == 10
    assert set(small) < set(large)
    assert large == sorted(large, key=NAMES.index)
    assert fixed_subset(NAMES, None, str) == NAMES

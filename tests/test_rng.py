# SPDX-License-Identifier: Apache-2.0
"""Named random streams: reproducible, distinct, and pinned, since a change voids every result."""

import torch

from pippin import rng


def test_a_key_gives_the_same_numbers_whatever_else_was_drawn():
    first = rng.normal((4,), "noise", 0, 7)
    torch.manual_seed(123)
    torch.randn(10)
    assert torch.equal(rng.normal((4,), "noise", 0, 7), first)


def test_streams_and_keys_are_distinct():
    draws = {
        float(rng.uniform((1,), *key))
        for key in [
            ("noise", 0, 1),
            ("time", 0, 1),
            ("noise", 1, 0),
            ("noise", 0, "1"),
            ("noise", 0, 11),
        ]
    }
    assert len(draws) == 5


def test_rows_that_are_drawn_one_by_one_are_those_of_the_whole():
    def rows(part, step=0):
        return rng.normal_rows((6, 400), part, "padding", 0, step, device="cpu")

    whole = rows(slice(0, 6))
    assert torch.equal(torch.cat([rows(slice(0, 2)), rows(slice(2, 6))]), whole)
    assert abs(whole.mean()) < 0.1 and abs(whole.std() - 1) < 0.1
    assert len({*whole[:, 0].tolist(), *rows(slice(0, 6), step=1)[:, 0].tolist()}) == 12


def test_the_streams_are_pinned():
    expected = torch.tensor([0.236466, 0.613484])
    assert torch.allclose(rng.uniform((2,), "time", 0, 0), expected, atol=1e-6)


def test_permutation_covers_the_range():
    assert sorted(rng.permutation(50, "order", 0, 3).tolist()) == list(range(50))

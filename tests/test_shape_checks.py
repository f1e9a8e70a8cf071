# SPDX-License-Identifier: Apache-2.0
"""Signatures are checked in the first calls of each test."""

import pytest
import torch
from jaxtyping import TypeCheckError
from shape_checks import CHECKED_CALLS

from pippin import rng
from pippin.types import Moments


@pytest.mark.parametrize("test", range(2))
def test_the_first_calls_of_each_test_are_checked(test):
    for _ in range(CHECKED_CALLS):
        with pytest.raises(Exception, match=r"rng\.permutation"):
            rng.permutation("3", "order")
    with pytest.raises(TypeError, match="randperm"):
        rng.permutation("3", "order")


def test_shapes_are_checked():
    with pytest.raises(TypeCheckError):
        Moments(mean=torch.zeros(2, 4, 8, 8), std=torch.zeros(2, 4, 8, 9))

# SPDX-License-Identifier: Apache-2.0
"""Trainers in a temporary folder."""

from functools import partial

import pytest
from small_trainer import make_trainer as make


@pytest.fixture
def make_trainer(tmp_path):
    """make_trainer(folder, **settings) -> Trainer at image 0; the folder has a default."""
    return partial(_make, tmp_path / "run")


def _make(default, folder=None, **settings):
    return make(folder or default, **settings)

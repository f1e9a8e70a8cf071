# SPDX-License-Identifier: Apache-2.0
"""A session of the small run, and another with a second model."""

import pytest

from pippin.app.play_model import open_model
from pippin.app.session import PlaySession


@pytest.fixture(scope="module")
def model(finished_run):
    return open_model(str(finished_run))


@pytest.fixture(scope="module")
def session(model):
    return PlaySession([model])


@pytest.fixture(scope="module")
def pair(model):
    """Two equal models side by side."""
    return PlaySession([model, model])


@pytest.fixture
def form(session):
    """Values of the page: four images of a class in two steps."""
    return {
        "prompt": session.class_names[1],
        "first_seed": 3,
        "count": 5,
        "solver": "dpm++",
        "steps": 2,
        "semantic_scale": 1.5,
        "control_scale": 1.0,
        "crop_size": 0.8,
        "crop_top": 1.0,
        "original_size": 64,
    }

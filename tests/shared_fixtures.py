# SPDX-License-Identifier: Apache-2.0
"""One thread, and fixtures of all folders."""

from copy import deepcopy
from functools import cache

import pytest
import torch
from random_inception import QuickNetwork, write_inception, write_shapes

from pippin.evaluation import metric_registry
from pippin.evaluation.features import efflite0

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_metrics_end_with_their_test():
    """Evaluations measure every declared metric of images, so none may stay for other tests."""
    before = set(metric_registry._DECLARED)
    yield
    for name in set(metric_registry._DECLARED) - before - metric_registry._SHIPPED:
        del metric_registry._DECLARED[name]
    metric_registry._find.cache_clear()


@pytest.fixture(scope="session", autouse=True)
def _efflite0_is_read_once():
    """Each extractor has a copy of the network; reading its file takes longer."""
    network = cache(efflite0._network)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(efflite0, "_network", lambda: deepcopy(network()))
        yield


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory):
    """File of random Inception weights."""
    return write_inception(tmp_path_factory.mktemp("inception") / "random.pth")


@pytest.fixture
def quick_inception(tmp_path_factory, monkeypatch):
    """File for evaluation.inception with which a quick network takes Inception's place."""
    place = "pippin.evaluation.features.inception._build"
    monkeypatch.setattr(place, lambda tensors, path: QuickNetwork())
    return write_shapes(tmp_path_factory.mktemp("inception") / "quick.pth")


@pytest.fixture
def images():
    """Twelve two-coloured images of 16 pixels."""
    draws = torch.Generator().manual_seed(1)
    colours = torch.randint(0, 256, (12, 2, 3, 1, 1), generator=draws)
    edge = torch.randint(4, 12, (12, 1, 1, 1), generator=draws)
    left = torch.arange(16).view(1, 1, 1, 16) < edge
    return torch.where(left, colours[:, 0], colours[:, 1]).expand(-1, -1, 16, -1).to(torch.uint8)

# SPDX-License-Identifier: Apache-2.0
"""Random weights of torch-fidelity's Inception in its file format, a quick network in its place,
and images whose features differ."""

from unittest.mock import patch

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate, pad

from pippin.evaluation.features.inception import SHAPES

GAIN = 4.0
"""Gain of the last layer, so that predicted classes of different images differ."""


def write_inception(path, seed=0):
    """Write a file like ``weights-inception-2015-12-05-6726825d.pth``: tensors by name, without
    counters.

    Convolutions have He initialisation (He et al. 2015). Means and variances of the
    normalisations are those of a few images, as after training: without them the deep features of
    all images would be nearly equal.
    """
    from torch_fidelity import FeatureExtractorInceptionV3

    with torch.random.fork_rng(), patch("torch.load", return_value={}):
        torch.manual_seed(seed)
        with patch.object(nn.Module, "load_state_dict"):
            network = FeatureExtractorInceptionV3("x", ["logits"], "no file is read")
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 1.0
        nn.init.normal_(network.fc.weight, std=GAIN / network.fc.in_features**0.5)
        with torch.no_grad():
            network.train()(torch.cat([blobs(2, 100, 4), blobs(2, 101, 7)]))
    tensors = network.state_dict()
    torch.save({k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}, path)
    return path


class QuickNetwork(nn.Module):
    """Network with the outputs of Inception, of which few differ between images: distances take no
    time."""

    def __init__(self):
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self._weight = torch.randn(27, 1008, generator=draws)
        self.Mixed_6d = nn.Module()
        self.Mixed_6d.branch1x1 = nn.Conv2d(3, 192, 1, bias=False)
        self.Mixed_6d.branch1x1.weight.data = torch.randn(192, 3, 1, 1, generator=draws)

    def forward(self, images):
        coarse = adaptive_avg_pool2d(images / 255, 3)
        self.Mixed_6d.branch1x1(pad(coarse, (0, 14, 0, 14)))
        values = coarse.flatten(1)
        return pad(values, (0, 2048 - 27)), values @ self._weight


def write_shapes(path):
    """Write a file that passes for Inception's weights until the network is built."""
    torch.save({name: torch.zeros(shape) for name, shape in SHAPES.items()}, path)
    return path


def blobs(count, seed, cells, side=48):
    """Smooth coloured noise, uint8 (count, 3, side, side), from an upsampled coarse grid."""
    draws = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, cells, cells, generator=draws)
    fine = interpolate(coarse, size=(side, side), mode="bilinear")
    return (fine * 255).round().to(torch.uint8)

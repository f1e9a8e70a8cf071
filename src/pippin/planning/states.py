# SPDX-License-Identifier: Apache-2.0
"""States of a training run: weights, gradients, optimizer and averages."""

from typing import NamedTuple

import torch

from pippin.conditioning.config import ConditioningConfig
from pippin.denoisers.config import DenoiserConfig
from pippin.evaluation.metrics.cost import meta_model
from pippin.model import LatentDenoiser, sampled_parameters
from pippin.training.config import TrainConfig
from pippin.training.muon import ITERATIONS, Muon
from pippin.training.optimizer import build_optimizers, state_bytes
from pippin.training.repa.config import RepaConfig
from pippin.training.repa.projector import add_projector, planned_width

FP32 = 4
"""Bytes per number: weights, gradients, optimizer and EMA are fp32 at every precision."""


def training_model(
    conditioning: ConditioningConfig,
    denoiser: DenoiserConfig,
    num_classes: int,
    channels: int,
    repa: RepaConfig,
) -> LatentDenoiser:
    """:func:`pippin.evaluation.metrics.cost.meta_model` with the projector that training adds."""
    model = meta_model(conditioning, denoiser, num_classes, channels)
    if repa.enabled:
        with torch.device("meta"):
            add_projector(model, repa, planned_width(repa), None)
    return model


class States(NamedTuple):
    """Bytes of one full copy of each state, and the optimizer's FLOPs in a step."""

    weights: int
    gradients: int
    optimizer: int
    ema: int
    optimizer_flops: int
    """FLOPs of Muon's matrix products; elementwise work is left out."""

    @property
    def checkpoint(self) -> int:
        """Bytes of a checkpoint: weights, EMA, optimizer."""
        return self.weights + self.ema + self.optimizer


def training_states(model: LatentDenoiser, train: TrainConfig) -> States:
    """Estimate the states of training a model.

    Every EMA is as large as the weights, without those of a projector.

    Args:
        model: built by :func:`training_model`.
        train: configuration of optimizers and averages.
    """
    parameters = FP32 * sum(p.numel() for p in model.parameters())
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    optimizer = flops = 0
    for member in build_optimizers(model, train):
        optimizer += state_bytes(member)
        if isinstance(member, Muon):
            owned = [p for group in member.param_groups for p in group["params"]]
            flops += sum(orthogonalise_flops(p.shape[0], p.numel() // p.shape[0]) for p in owned)
    return States(
        weights=parameters + buffers,
        gradients=parameters,
        optimizer=optimizer,
        ema=FP32 * sum(p.numel() for _, p in sampled_parameters(model)) * len(train.averages),
        optimizer_flops=flops,
    )


def orthogonalise_flops(rows: int, columns: int) -> int:
    """FLOPs of :func:`pippin.training.muon.orthogonalise` on a GPU, where ``train.muon_gram`` has
    no effect: with m the smaller side and n the other, an iteration multiplies (m, n) (n, m),
    (m, m) (m, m) and (m, m) (m, n)."""
    m, n = sorted((rows, columns))
    return ITERATIONS * (4 * m * m * n + 2 * m * m * m)

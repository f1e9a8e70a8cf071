# SPDX-License-Identifier: Apache-2.0
"""Adam, its learning rate as a function of images seen, and its state as named tensors."""

import torch
from torch import Tensor, nn

from pippin.training.config import TrainConfig


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam over all parameters, in the order of ``named_parameters``; decay is decoupled."""
    kind = torch.optim.AdamW if config.weight_decay else torch.optim.Adam
    device = next(model.parameters()).device.type
    return kind(
        model.parameters(),
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=device in ("cpu", "cuda"),  # one pass over the weights
    )


def learning_rate(config: TrainConfig, images_seen: int) -> float:
    """Linear warm-up over ``warmup_images``, then constant; at the end of the step's batch."""
    if config.warmup_images == 0:
        return config.learning_rate
    return config.learning_rate * min(1.0, images_seen / config.warmup_images)


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as ``SLOT/PARAMETER`` tensors."""
    return {
        f"{slot}/{name}": value
        for name, parameter in model.named_parameters()
        for slot, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    """The inverse of :func:`optimizer_tensors`, on the device of each parameter."""
    slots = sorted({key.split("/", 1)[0] for key in tensors})
    states = {
        number: {slot: tensors[f"{slot}/{name}"] for slot in slots}
        for number, (name, _) in enumerate(model.named_parameters())
    }
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": states if slots else {}, "param_groups": groups})

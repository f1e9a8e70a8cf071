# SPDX-License-Identifier: Apache-2.0
"""What a model costs: parameters, and multiply-accumulates of one forward pass for one image."""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from pippin.evaluation.measure import Measure
from pippin.model import build_model
from pippin.recipes.recipe import Recipe
from pippin.types import Embedded


def cost_measures(
    recipe: Recipe, num_classes: int, latent_shape: tuple[int, int, int]
) -> list[Measure]:
    """``parameters`` of the whole model, and ``MACs`` of the denoiser (1 MAC = 2 FLOPs).

    Counted on the meta device, where nothing is computed and attention is counted too.
    """
    with torch.device("meta"):
        model = build_model(
            recipe.conditioning,
            recipe.denoiser,
            num_classes=num_classes,
            latent_channels=latent_shape[0],
            seed=None,
        )
        widths, door = model.denoiser.widths, model.conditioner
        table = door.label_tokens or door.constant_tokens
        tokens = None if table is None else torch.empty(1, door.num_tokens, widths.token)
        embedded = Embedded(tokens=tokens, modulation=torch.empty(1, widths.modulation))
        with FlopCounterMode(display=False) as counter:
            model.denoiser(torch.empty(1, *latent_shape), embedded)
    parameters = sum(p.numel() for p in model.parameters())
    return [
        _exact("parameters", parameters, ""),
        _exact("MACs", counter.get_total_flops() // 2, "multiply-accumulates per image"),
    ]


def _exact(name: str, value: int, unit: str) -> Measure:
    fixed: dict[str, Any] = {"low": None, "high": None, "interval_over": "none", "n": 1}
    return Measure(name=name, value=float(value), unit=unit, better="neither", **fixed)

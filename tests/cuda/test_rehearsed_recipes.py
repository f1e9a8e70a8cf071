# SPDX-License-Identifier: Apache-2.0
"""The loss of every recipe at its own widths, as a GPU would compute it."""

from dataclasses import replace

import pytest
import torch
from cuda_rehearsal import rehearsal

from pippin.conditioning.config import TextSemantic
from pippin.control import Control, Corner, Size
from pippin.denoisers.unet.config import UNetConfig
from pippin.diffusion.rescale import build_schedule
from pippin.model import build_model
from pippin.objective.batch_loss import BatchLoss
from pippin.objective.draws import draw_step
from pippin.objective.losses import Objective
from pippin.recipes.table import RECIPES
from pippin.types import Batch, Conditions, TextFeatures, stack_controls

ROWS, CLASSES, CHANNELS, SIDE = 2, 10, 4, 32
"""Latents of images of 256 pixels."""


def settings_of(name):
    """The recipe's network, conditions and loss, with few of its equal blocks."""
    recipe = RECIPES[name]()
    denoiser = recipe.denoiser
    if isinstance(denoiser, UNetConfig):
        denoiser = replace(denoiser, blocks_per_level=1)
    else:
        parts = {n: 1 for n in ("encoder_depth", "context_start") if getattr(denoiser, n, None)}
        depth = 2 + getattr(denoiser, "decoder_depth", 0)
        denoiser = replace(denoiser, depth=depth, **parts)
    return denoiser, recipe.conditioning, recipe.diffusion


AT_256 = [name for name in RECIPES if "256" in name]
DIFFERENT = {str(settings_of(name)): name for name in AT_256}.values()


def conditions_of(conditioning):
    whole = Size(8 * SIDE, 8 * SIDE)
    control = Control(original_size=whole, crop_corner=Corner(0, 0), crop_size=whole, flip=False)
    semantic, text = conditioning.semantic, None
    if isinstance(semantic, TextSemantic):
        tokens, pooled = semantic.token_features, semantic.pooled_features
        text = TextFeatures(
            tokens=None if tokens is None else torch.zeros(ROWS, semantic.num_tokens, tokens),
            pooled=None if pooled is None else torch.zeros(ROWS, pooled),
        )
    return Conditions(
        label=torch.zeros(ROWS, dtype=torch.long),
        text=text,
        control=stack_controls([control] * ROWS),
    )


@pytest.mark.parametrize("name", DIFFERENT)
def test_the_loss_waits_for_nothing(name):
    denoiser, conditioning, diffusion = settings_of(name)
    shape = (ROWS, CHANNELS, SIDE, SIDE)
    batch = Batch(
        latents=torch.zeros(shape),
        conditions=conditions_of(conditioning),
        index=torch.arange(ROWS),
    )
    with rehearsal() as mode:
        with torch.device("cuda"):
            model = build_model(
                conditioning,
                denoiser,
                num_classes=CLASSES,
                latent_channels=CHANNELS,
                seed=None,
                log_snr=build_schedule(diffusion).log_snr,
            )
        maskable = model.denoiser.num_maskable(shape)
        draws = draw_step(diffusion, conditioning, shape, num_shuffled=maskable, seed=0, step=0)
        loss = BatchLoss(model, Objective(diffusion), "bf16")(batch, draws)
    assert (loss.device.type, loss.dtype, loss.shape) == ("cuda", torch.float32, ())
    assert not mode.waits

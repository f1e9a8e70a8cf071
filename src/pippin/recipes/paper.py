# SPDX-License-Identifier: Apache-2.0
"""Five denoisers under one protocol on ImageNet: ``pippin train paper/MODEL-SIDE[-disentangled]``.

At one resolution the recipes differ in denoiser and conditioning alone. The plain ones read the
class as their own papers do, and control constant in time; the disentangled ones read it by
attention, and low-level control under a power-cosine gate (the method of Berrada et al. 2024).
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

from pippin.conditioning.config import (
    ConditioningConfig,
    ConstantGate,
    ControlConfig,
    Mechanism,
    PowerCosineGate,
)
from pippin.data.config import ImagesConfig
from pippin.denoisers.config import DenoiserConfig, dit, mdtv2, mmdit, pixart, unet
from pippin.diffusion.config import DiffusionConfig
from pippin.encoders.config import AutoencoderConfig
from pippin.evaluation.config import EvaluationConfig
from pippin.recipes.published import half_life
from pippin.recipes.recipe import Recipe
from pippin.sampling.config import ControlRequest, GuidanceConfig, SamplingConfig
from pippin.training.config import TrainConfig

Resolution = Literal[256, 512]
BATCH_SIZE = 2048
IMAGES: dict[Resolution, int] = {256: 102_400_000, 512: 25_600_000}
"""At 256 as many as 400 thousand steps of DiT's sweep, 80 epochs; at 512 a quarter. Both ours."""


class Model(NamedTuple):
    """One denoiser of the comparison."""

    route: Mechanism
    """How its own paper reads a class, or where it has text only, the text's tokens."""
    build: Callable[[int, bool], DenoiserConfig]
    """From the side of the grid of patches, and whether class tokens need a cross-attention."""


MODELS = {
    "unet": Model("attention", lambda side, crossing: unet("SD1")),
    "dit": Model("modulation", lambda side, crossing: dit("XL", cross_attention=crossing)),
    "mdtv2": Model(
        "modulation", lambda side, crossing: mdtv2("XL", (side, side), cross_attention=crossing)
    ),
    # One base grid: at 512 the positions lie between those of 256, whose weights it starts from.
    "pixart": Model("attention", lambda side, crossing: pixart("XL", base_grid=16)),
    "mmdit": Model("attention", lambda side, crossing: mmdit("XL")),
}
"""All of size XL, without learned variance; the UNet is Stable Diffusion 1's."""


def comparison(name: str, resolution: Resolution, *, disentangled: bool) -> Recipe:
    """A denoiser of :data:`MODELS` under the common protocol."""
    model = MODELS[name]
    side = resolution // 16  # factor 8 of the autoencoder, patches of 2
    return Recipe(
        data=ImagesConfig(resolution=resolution, held_out_share=0.01),
        autoencoder=AutoencoderConfig(source="stabilityai/sd-vae-ft-ema"),
        diffusion=DiffusionConfig(schedule="sd", prediction="eps"),
        conditioning=ConditioningConfig(
            rules={"label": "attention" if disentangled else model.route},
            control=ControlConfig(low_gate=PowerCosineGate() if disentangled else ConstantGate()),
        ),
        denoiser=model.build(side, disentangled),
        # At 512, init.run is to be set to the run at 256, so that training goes on from it. MDTv2
        # has learned positions, one for each patch, so those weights do not fit: it starts anew,
        # and this short run is no equal match for the others.
        train=TrainConfig(
            images=IMAGES[resolution],
            batch_size=BATCH_SIZE,
            learning_rate=1e-4,
            betas=(0.9, 0.95),
            ema=half_life(0.9999, BATCH_SIZE),
            precision="bf16",
        ),
        sampling=SamplingConfig(
            solver="ddim",
            steps=250,
            guidance=GuidanceConfig(semantic_scale=1.5),  # ours: to be searched for each model
            control=ControlRequest(original_size=(resolution, resolution)),
        ),
        evaluation=EvaluationConfig(num_samples=50_000),
    )


def recipes() -> dict[str, Callable[[], Recipe]]:
    """All of them by name."""
    resolutions: tuple[Resolution, ...] = (256, 512)
    return {
        f"paper/{name}-{resolution}{'-disentangled' * disentangled}": partial(
            comparison, name, resolution, disentangled=disentangled
        )
        for name in MODELS
        for resolution in resolutions
        for disentangled in (False, True)
    }

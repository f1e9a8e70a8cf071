# SPDX-License-Identifier: Apache-2.0
"""Published models of 2025: JiT on pixels, DDT, and DiT with mean velocities (MeanFlow).

What holds for all published recipes is in :mod:`pippin.recipes.published`.
"""

import math
from dataclasses import replace

from pippin.data.config import CacheConfig
from pippin.denoisers.ddt.config import ddt
from pippin.denoisers.dit.config import dit
from pippin.denoisers.jit.config import X_PREDICTION, jit
from pippin.diffusion.config import DiffusionConfig, LogitNormalTime
from pippin.encoders.config import PIXELS, AutoencoderConfig
from pippin.evaluation.config import EvaluationConfig
from pippin.recipes.openmoji import MEANFLOW
from pippin.recipes.published import TORCH_BETAS, by_label, image_folder
from pippin.recipes.recipe import Recipe
from pippin.sampling.config import GuidanceConfig, SamplingConfig
from pippin.training.averaging.config import half_life
from pippin.training.config import TrainConfig, with_long_intervals

IMAGENET = 1_281_167
"""Training images of ImageNet-1k."""


def guided_from(share: float, scale: float) -> GuidanceConfig:
    """Guidance from a share of data in the state on, to the clean end."""
    return GuidanceConfig(
        semantic_scale=scale, log_snr_interval=(2 * math.log(share / (1 - share)), 1e9)
    )


def jit_b_256() -> Recipe:
    """JiT-B/16 on pixels of ImageNet at 256 (Li & He 2025, and their released code).

    Times, noise, loss and dropped labels were checked against the released code only; the rest is
    unverified.
    """
    batch_size = 1024
    return Recipe(
        data=image_folder(256, dataset="imagenet-1k"),
        autoencoder=AutoencoderConfig(source=PIXELS),
        cache=CacheConfig(enabled=False),  # a view of 256 pixels is 1.6 MB
        diffusion=X_PREDICTION,
        # The code has one table of classes; here modulation and tokens have their own.
        conditioning=by_label("both", num_tokens=1),
        denoiser=jit("B", context=True, context_repeats=32),
        train=with_long_intervals(
            TrainConfig(
                images=600 * IMAGENET,
                batch_size=batch_size,
                learning_rate=2e-4,
                betas=(0.9, 0.95),
                warmup_images=5 * IMAGENET,
                grad_clip=None,
                ema=half_life(0.9999, batch_size),
                precision="bf16",
            )
        ),
        sampling=SamplingConfig(
            # The code divides by 0.05 at least in the last steps too; here they end at x0.
            solver="heun",
            steps=50,
            guidance=guided_from(0.1, 2.9),
        ),
        evaluation=EvaluationConfig(num_samples=50_000),
    )


def ddt_xl_256() -> Recipe:
    """DDT-XL/2, 22 encoder and 6 decoder blocks, on ImageNet at 256 pixels (Wang et al. 2025).

    Times were checked against the released code only; the rest is unverified. The loss that aligns
    the encoder's features with DINOv2 (REPA) is off here; ``--train.repa.encoder dinov2
    --train.repa.source facebook/dinov2-base`` adds it.
    """
    batch_size = 256
    return Recipe(
        data=image_folder(256, dataset="imagenet-1k"),
        autoencoder=AutoencoderConfig(source="stabilityai/sd-vae-ft-ema"),
        diffusion=DiffusionConfig(
            schedule="flow", prediction="flow", time_density=LogitNormalTime()
        ),
        conditioning=by_label(),
        denoiser=ddt("XL"),
        train=with_long_intervals(
            TrainConfig(
                images=256 * IMAGENET,
                batch_size=batch_size,
                learning_rate=1e-4,
                betas=TORCH_BETAS,
                grad_clip=None,
                ema=half_life(0.9999, batch_size),
                precision="fp32",  # as DiT's
                micro_batch_size=16,
            )
        ),
        sampling=SamplingConfig(
            solver="euler",
            steps=250,
            guidance=guided_from(0.3, 2.0),
        ),
        evaluation=EvaluationConfig(num_samples=50_000),
    )


def meanflow_b_256() -> Recipe:
    """DiT-B/4 that samples in one step, on ImageNet at 256 pixels (Geng et al. 2025, and their
    released code).

    Times, weight, guidance, optimizer and length were checked against the released code's
    configuration of B/4 only; the rest is unverified. Its network reads t, this one 1 - t.
    The code chooses the first images of a batch for r = t, this one rows at equal distances.
    """
    batch_size = 256
    return Recipe(
        data=image_folder(256, dataset="imagenet-1k"),
        autoencoder=AutoencoderConfig(source="stabilityai/sd-vae-ft-mse"),
        diffusion=MEANFLOW,
        conditioning=replace(by_label(), interval=True),
        denoiser=dit("B", patch_size=4, time_input="data"),
        train=with_long_intervals(
            TrainConfig(
                images=240 * IMAGENET,
                batch_size=batch_size,
                learning_rate=1e-4,
                betas=(0.9, 0.95),
                grad_clip=None,
                ema=half_life(0.9999, batch_size),
                precision="fp32",  # as the code's
            )
        ),
        sampling=SamplingConfig(solver="meanflow", steps=1),
        evaluation=EvaluationConfig(num_samples=50_000),
    )

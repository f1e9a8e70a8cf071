# SPDX-License-Identifier: Apache-2.0
"""Published models as they were trained: ``pippin train published/NAME --data.path FOLDER``.

Values are those of the papers and of their released code. A comment marks values that differ, and
values without a readable source. For all recipes here:

- Control is off: none of these models reads it. Adam's epsilon is 1e-8.
- EMA decays of 0.9999 per step are half-lives in images, at the recipe's batch size.
- Crops are squares of the full shorter side at a uniform position along the longer one; DiT, MDT
  and PixArt-alpha crop the centre. Each image has 8 cached views; they draw a new flip every time.
  One in a hundred training images is held out; they hold out none.
- Where the local batch of eight devices of 80 GB does not fit (`pippin plan`), micro-batches or
  fsdp are set. They change rounding only and are no part of the fingerprint.
- Text models need their encoders (text.source) and images with captions.
"""

import math
from dataclasses import replace

from pippin.conditioning.config import (
    ConditioningConfig,
    ControlConfig,
    DropConfig,
    LabelSemantic,
    Mechanism,
    TextSemantic,
)
from pippin.data.config import CropConfig, ImagesConfig
from pippin.denoisers.dit.config import dit
from pippin.denoisers.mdtv2.config import mdtv2
from pippin.denoisers.mmdit.config import MMDiTConfig
from pippin.denoisers.pixart.config import pixart
from pippin.denoisers.unet.config import unet
from pippin.diffusion.config import DiffusionConfig, LogitNormalTime, MinSNRWeight
from pippin.encoders.config import AutoencoderConfig, TextConfig
from pippin.evaluation.config import EvaluationConfig
from pippin.recipes.recipe import Recipe
from pippin.sampling.config import GuidanceConfig, SamplingConfig
from pippin.training.averaging.config import half_life
from pippin.training.config import InitConfig, TrainConfig, with_long_intervals

TORCH_BETAS = (0.9, 0.999)
"""Adam's defaults in PyTorch."""
NO_CONTROL = ControlConfig(high=(), low=())


def image_folder(
    resolution: int, *, flip_probability: float = 0.5, dataset: str = ""
) -> ImagesConfig:
    """Settings of a folder of class folders, such as ImageNet's, whose path the user gives."""
    return ImagesConfig(
        resolution=resolution,
        dataset=dataset,
        crop_law=CropConfig(smallest=1.0, largest=1.0, flip_probability=flip_probability),
        held_out_share=0.01,
    )


def by_label(
    mechanism: Mechanism = "modulation", *, num_tokens: int = 4, init_std: float = 0.02
) -> ConditioningConfig:
    """Class conditioning only, with one in ten labels dropped."""
    return ConditioningConfig(
        semantic=LabelSemantic(num_tokens=num_tokens, init_std=init_std),
        rules={"label": mechanism},
        control=NO_CONTROL,
        drop=DropConfig(keep=0.9, control=0.0, semantic=0.1, both=0.0),
    )


def dit_xl_256() -> Recipe:
    """DiT-XL/2 at 256 pixels (Peebles & Xie 2023, section 4, and their train.py)."""
    batch_size = 256
    return Recipe(
        data=image_folder(256, dataset="imagenet-1k"),
        autoencoder=AutoencoderConfig(source="stabilityai/sd-vae-ft-ema"),
        diffusion=DiffusionConfig(schedule="ddpm"),
        conditioning=by_label(),
        denoiser=dit("XL", learn_variance=True),
        train=with_long_intervals(
            TrainConfig(
                images=7_000_000 * batch_size,
                batch_size=batch_size,
                learning_rate=1e-4,
                betas=TORCH_BETAS,
                grad_clip=None,
                ema=half_life(0.9999, batch_size),
                precision="fp32",  # the released script's; the paper trained on TPUs
            )
        ),
        sampling=SamplingConfig(
            solver="ddpm",
            spacing="linspace",
            steps=250,
            guidance=GuidanceConfig(semantic_scale=1.5, cfg_channels=3),
        ),
        evaluation=EvaluationConfig(num_samples=50_000),
    )


def dit_xl_512() -> Recipe:
    """DiT-XL/2 at 512 pixels: as at 256, from scratch, with 3 million steps."""
    base = dit_xl_256()
    return replace(
        base,
        data=image_folder(512, dataset="imagenet-1k"),
        train=replace(base.train, images=3_000_000 * base.train.batch_size, micro_batch_size=16),
    )


def sit_xl_256() -> Recipe:
    """SiT-XL/2 at 256 pixels (Ma et al. 2024), trained as DiT with the velocity of the straight
    path, at uniform times."""
    base = dit_xl_256()
    return replace(
        base,
        diffusion=DiffusionConfig(schedule="flow", prediction="flow"),
        denoiser=dit("XL", time_input="data"),
        sampling=SamplingConfig(
            # The code's ODE solver, adaptive dopri5, is not implemented. The paper's best FID is
            # of an SDE (solver sde, 250 steps). 125 steps of Heun are 249 evaluations: our choice.
            solver="heun",
            steps=125,
            guidance=GuidanceConfig(semantic_scale=1.5, cfg_channels=3),
        ),
    )


def lightningdit_xl_256() -> Recipe:
    """LightningDiT-XL/1 at 256 pixels on VA-VAE's latents (Yao et al. 2025), for 800 epochs.

    The released code reads latents from disk, each with and without a flip.
    """
    batch_size = 1024
    return replace(
        dit_xl_256(),
        # A folder that the user makes of the released weights, or gives by autoencoder.source.
        autoencoder=AutoencoderConfig(source="va-vae-f16d32"),
        diffusion=DiffusionConfig(
            schedule="flow",
            prediction="flow",
            time_density=LogitNormalTime(),
            direction_weight=1.0,
        ),
        denoiser=dit("XL", patch_size=1, norm="rms", mlp="swiglu", rotary=True, time_input="data"),
        train=with_long_intervals(
            TrainConfig(
                images=1_000_000 * batch_size,  # 800 epochs; 80 000 steps are 64 epochs
                batch_size=batch_size,
                learning_rate=2e-4,
                betas=(0.9, 0.95),
                grad_clip=None,
                ema=half_life(0.9999, batch_size),
                precision="bf16",
                micro_batch_size=64,
            )
        ),
        sampling=SamplingConfig(
            solver="euler",
            steps=249,  # a grid of 250 points
            time_shift=1 / 0.3,  # the code's 0.3, for times that run from noise to data
            guidance=GuidanceConfig(
                semantic_scale=6.7,  # 10, from a time of 0.1 on, for 64 epochs
                cfg_channels=3,
                # from the time 0.125 on: log-SNR 2 log(0.125 / 0.875)
                log_snr_interval=(2 * math.log(0.125 / 0.875), 1e9),
            ),
        ),
    )


def mdtv2_xl_256() -> Recipe:
    """MDTv2-XL/2 at 256 pixels (Gao et al. 2023), as its released code trains it.

    Checked against the released code only.
    """
    base = dit_xl_256()
    return replace(
        base,
        autoencoder=AutoencoderConfig(source="stabilityai/sd-vae-ft-mse"),
        diffusion=DiffusionConfig(schedule="ddpm", loss_weight=MinSNRWeight(gamma=5.0)),
        # decoder_depth 4: the scripts' and the sampling code's; the README says 2 for XL.
        # The full and the masked pass share noise and dropped classes; the code draws new ones.
        denoiser=mdtv2("XL", (16, 16), decoder_depth=4, learn_variance=True),
        train=replace(
            base.train,
            images=4_600_000 * base.train.batch_size,  # unverified: from a secondary source
            # The code's optimizer is Adan at 3e-4, which is not implemented. Adam at DiT's rate
            # replaces it: unverified.
            learning_rate=1e-4,
            grad_clip=1.0,
        ),
        sampling=replace(
            base.sampling,
            guidance=GuidanceConfig(semantic_scale=3.8, semantic_power=4, cfg_channels=3),
        ),
    )


def pixart_xl_256() -> Recipe:
    """PixArt-alpha at 256 pixels (Chen et al. 2023, table 4), the text-image alignment stage.

    The stage before it, ImageNet at 2e-5 from DiT's weights, and the stage after it, on aesthetic
    images, have the same settings except for batch size and length.
    """
    batch_size = 178 * 64
    return Recipe(
        data=image_folder(256, flip_probability=0.0),
        autoencoder=AutoencoderConfig(source="stabilityai/sd-vae-ft-ema"),
        # The paper's captions are those of a captioning model; here, those of the data set.
        text=TextConfig(source=("google/t5-v1_1-xxl",)),
        diffusion=DiffusionConfig(schedule="ddpm"),
        conditioning=ConditioningConfig(
            semantic=TextSemantic(
                token_features=4096,
                num_tokens=120,
                projection="mlp",
                projection_init="normal",  # N(0, 0.02), the code's
                padding="mask",
            ),
            rules={"text": "attention"},
            control=NO_CONTROL,
            # The paper's null caption is fixed noise; ours is learned.
            drop=DropConfig(keep=0.9, control=0.0, semantic=0.1, both=0.0),
        ),
        denoiser=pixart("XL", base_grid=16, learn_variance=True),
        train=with_long_intervals(
            TrainConfig(
                images=150_000 * batch_size,
                batch_size=batch_size,
                learning_rate=2e-5,
                betas=TORCH_BETAS,
                weight_decay=0.03,
                warmup_images=1_000 * batch_size,  # the code's
                grad_clip=0.01,  # the code's
                ema=half_life(0.9999, batch_size),  # the code's
                precision="bf16",  # the code's is fp16, which is not implemented
                micro_batch_size=89,  # a sixteenth of the local batch of eight devices
            )
        ),
        sampling=SamplingConfig(
            solver="dpm++",
            # The paper does not give its times. The code's are uniform in t.
            spacing="linspace",
            steps=20,
            guidance=GuidanceConfig(semantic_scale=4.5),  # the code's
        ),
        evaluation=EvaluationConfig(num_samples=30_000),  # unverified
    )


def pixart_xl_512() -> Recipe:
    """PixArt-alpha at 512 pixels, the aesthetics stage, which continues the run at 256.

    The paper embeds image sizes and trains on many aspect ratios in this stage. Here crops are
    square unless data.aspect_ratios is given, and sizes are not embedded, so that the weights of
    256 fit.
    """
    base, batch_size = pixart_xl_256(), 40 * 64
    return replace(
        base,
        data=image_folder(512, flip_probability=0.0),
        denoiser=pixart("XL", base_grid=32, learn_variance=True),
        init=InitConfig(continues="published/pixart-xl-256"),
        train=with_long_intervals(
            replace(
                base.train,
                images=100_000 * batch_size,
                batch_size=batch_size,
                warmup_images=1_000 * batch_size,
                ema=half_life(0.9999, batch_size),
                micro_batch_size=16,
            )
        ),
    )


def mmdit_sd3_d24_256() -> Recipe:
    """The mmDiT of depth 24 at 256 pixels (Esser et al. 2024), about 2 billion parameters."""
    batch_size = 4096
    return Recipe(
        data=image_folder(256, flip_probability=0.0),  # flips: unverified
        autoencoder=AutoencoderConfig(source="sd3-vae"),
        text=TextConfig(
            source=(
                "openai/clip-vit-large-patch14",
                "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
                "google/t5-v1_1-xxl",
            ),
            layer="penultimate",
            combine="sd3",
        ),
        diffusion=DiffusionConfig(
            schedule="flow", prediction="flow", time_density=LogitNormalTime()
        ),
        conditioning=ConditioningConfig(
            semantic=TextSemantic(token_features=4096, pooled_features=2048, num_tokens=154),
            rules={"text": "attention", "pooled": "modulation"},
            control=NO_CONTROL,
            # The paper drops each of three encoders at 46.4 %, so that all are dropped in about
            # one caption of ten. Here all are dropped together.
            drop=DropConfig(keep=0.9, control=0.0, semantic=0.1, both=0.0),
        ),
        denoiser=MMDiTConfig(
            depth=24,
            width=1536,
            num_heads=24,
            qk_norm=False,  # the paper uses it in the high-resolution stages only
            table_side=192,  # the code's
        ),
        train=with_long_intervals(
            TrainConfig(
                images=500_000 * batch_size,
                batch_size=batch_size,
                learning_rate=1e-4,  # the paper's study of formulations
                betas=TORCH_BETAS,  # unverified
                weight_decay=0.0,  # unverified
                warmup_images=1_000 * batch_size,  # the paper's study of formulations
                grad_clip=1.0,  # unverified
                ema=half_life(0.9999, batch_size),  # unverified: our choice
                precision="bf16",
                micro_batch_size=32,
                parallel="fsdp",
            )
        ),
        sampling=SamplingConfig(
            solver="euler", steps=50, guidance=GuidanceConfig(semantic_scale=5.0)
        ),
        evaluation=EvaluationConfig(num_samples=30_000),  # unverified
    )


def ldm_4_imagenet_256() -> Recipe:
    """LDM-4 on ImageNet at 256 pixels (Rombach et al. 2022, tables 10 and 15; cin256-v2)."""
    batch_size = 1200
    return Recipe(
        # The code crops at a random position, as here. Flips: unverified.
        data=image_folder(256, flip_probability=0.0, dataset="imagenet-1k"),
        # The paper's autoencoder is quantised (f4, 3 channels), which is not implemented. This
        # name denotes a folder with a KL autoencoder of the same shape.
        autoencoder=AutoencoderConfig(source="kl-f4"),
        diffusion=DiffusionConfig(schedule="ldm-f4"),
        # Dropping one in ten: unverified. The code keeps torch's N(0, 1) for its class embedding.
        conditioning=by_label("attention", num_tokens=1, init_std=1.0),
        denoiser=unet("LDM-4"),
        train=with_long_intervals(
            TrainConfig(
                images=178_000 * batch_size,
                batch_size=batch_size,
                learning_rate=1e-4,
                betas=TORCH_BETAS,
                weight_decay=0.01,  # PyTorch's default, which the code keeps
                grad_clip=None,
                ema=half_life(0.9999, batch_size),  # the code's
                precision="fp32",  # unverified
                micro_batch_size=75,
            )
        ),
        sampling=SamplingConfig(
            solver="ddim",  # eta 0: the paper's eta for these samples is unverified
            spacing="leading",  # the code's times are later by one
            steps=250,
            guidance=GuidanceConfig(semantic_scale=1.5),
        ),
        evaluation=EvaluationConfig(num_samples=50_000),
    )

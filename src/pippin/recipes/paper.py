# SPDX-License-Identifier: Apache-2.0
"""Five denoisers under one protocol, on ImageNet and on CC12M:
``pippin train paper/[cc12m-]MODEL-SIDE[-disentangled]``.

On one data set at one resolution the recipes differ only in denoiser and conditioning. The plain
recipes read class or text as in the denoiser's own paper, with control constant in time. The
disentangled recipes read class or text by attention, with low-level control under a power-cosine
gate (the method of Berrada et al. 2024). Values with a comment are our choices or unconfirmed.

The learning rate is an interpretation: see :data:`LEARNING_RATE`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal, NamedTuple

from pippin.conditioning.config import (
    ConditioningConfig,
    ConstantGate,
    ControlConfig,
    Mechanism,
    PowerCosineGate,
    TextSemantic,
)
from pippin.data.config import ImagesConfig
from pippin.denoisers.config import DenoiserConfig
from pippin.denoisers.dit.config import dit
from pippin.denoisers.mdtv2.config import mdtv2
from pippin.denoisers.mmdit.config import mmdit
from pippin.denoisers.pixart.config import pixart
from pippin.denoisers.unet.config import unet
from pippin.diffusion.config import DiffusionConfig
from pippin.encoders.config import AutoencoderConfig, TextConfig
from pippin.evaluation.config import EvaluationConfig
from pippin.recipes.openmoji import SDXL_CONTROL
from pippin.recipes.recipe import Recipe
from pippin.sampling.config import ControlRequest, GuidanceConfig, SamplingConfig
from pippin.training.averaging.config import half_life
from pippin.training.config import InitConfig, TrainConfig, with_long_intervals

Resolution = Literal[256, 512]
BATCH_SIZE = 2048
LEARNING_RATE = 1e-3
"""Constant learning rate of Adam, at :data:`BATCH_SIZE`. Unconfirmed: 1e-3 is our interpretation
of section 3.1 (Berrada et al. 2024), at 256 pixels. At 512 pixels no rate is published; we use the
same. The study ``learning-rate`` compares it with DiT's 1e-4 and with twice the rate."""
IMAGES: dict[Resolution, int] = {256: 102_400_000, 512: 25_600_000}
"""Number of training images: at 256 as in 400 thousand steps of DiT's sweep, which are 80 epochs
of ImageNet and 9 of CC12M; at 512 a quarter. Both are our choices."""
MICRO_BATCH: dict[Resolution, dict[str, int]] = {
    256: {"unet": 128, "dit": 64, "mdtv2": 32, "pixart": 64, "mmdit": 32},
    512: {"unet": 32, "dit": 16, "mdtv2": 8, "pixart": 16, "mmdit": 8},
}
"""Images computed at once on each device, so that eight devices of 80 GB suffice without
recomputation (`pippin plan`). It changes rounding only and is no part of the fingerprint."""
CLIP = "openai/clip-vit-large-patch14"  # ViT-L/14: unconfirmed
BASE_GRID = 16
"""Number of patches along a side at 256 pixels."""
CLIP_FEATURES = 768
"""Width of CLIP's tokens and of its pooled vector."""


class Model(NamedTuple):
    """Denoiser of the comparison."""

    route: Mechanism
    """Mechanism by which its own paper reads a class, or the text's tokens if it has text only."""
    build: Callable[[int, bool], DenoiserConfig]
    """Builder from the side of the patch grid, and a flag for cross-attention to tokens."""
    projection: Literal["none", "linear", "mlp"] = "linear"
    """Text projection of its own paper; linear is our choice for DiT and MDTv2, which have no
    text."""
    pooled: bool = False
    """True if its own paper uses a pooled vector of the text in modulation."""


MODELS = {
    "unet": Model("attention", lambda side, cross_attention: unet("SD1"), projection="none"),
    # One base grid for computed positions: at 512 they lie between those of 256.
    "dit": Model(
        "modulation",
        lambda side, cross_attention: dit(
            "XL", cross_attention=cross_attention, base_grid=BASE_GRID
        ),
    ),
    "mdtv2": Model(
        "modulation",
        lambda side, cross_attention: mdtv2("XL", (side, side), cross_attention=cross_attention),
    ),
    "pixart": Model(
        "attention",
        lambda side, cross_attention: pixart("XL", base_grid=BASE_GRID),
        projection="mlp",
    ),
    "mmdit": Model(
        "attention", lambda side, cross_attention: mmdit("XL", base_grid=BASE_GRID), pooled=True
    ),
}
"""Denoisers of size XL, without learned variance; the UNet is Stable Diffusion 1's."""


def image_folder(resolution: Resolution, dataset: str) -> ImagesConfig:
    """Settings of an image folder, whose path the user gives."""
    return ImagesConfig(resolution=resolution, held_out_share=0.01, dataset=dataset)


def comparison(name: str, resolution: Resolution, *, disentangled: bool) -> Recipe:
    """Class-conditional recipe of a denoiser of :data:`MODELS` under the common protocol."""
    model = MODELS[name]
    plain = f"paper/{name}-256{'-disentangled' * disentangled}"
    side = resolution // 16  # factor 8 of the autoencoder, patches of 2
    return Recipe(
        data=image_folder(resolution, "imagenet-1k"),
        autoencoder=AutoencoderConfig(source="stabilityai/sd-vae-ft-ema"),
        diffusion=DiffusionConfig(schedule="sd", prediction="eps", rescale=resolution / 256),
        conditioning=ConditioningConfig(
            rules={"label": "attention" if disentangled else model.route},
            control=ControlConfig(low_gate=PowerCosineGate() if disentangled else ConstantGate()),
        ),
        denoiser=model.build(side, disentangled),
        # The paper's models at 512 start from those at 256. MDTv2, whose positions are learned,
        # also needs init.transfer positions.
        init=_init_from(plain, resolution),
        train=with_long_intervals(
            TrainConfig(
                images=IMAGES[resolution],
                batch_size=BATCH_SIZE,
                learning_rate=LEARNING_RATE,
                betas=(0.9, 0.95),
                ema=half_life(0.9999, BATCH_SIZE),
                precision="bf16",
                micro_batch_size=MICRO_BATCH[resolution][name],
            )
        ),
        sampling=SamplingConfig(
            solver="ddim",
            steps=250,
            guidance=_guidance(1.5, resolution),
            control=ControlRequest(original_size=(resolution, resolution)),
        ),
        # The paper's FID is against ImageNet's validation set; here it is against the held-out
        # images, or against that set with --evaluation.reference FILE.npz.
        evaluation=EvaluationConfig(num_samples=50_000, reference="validation"),
    )


def mmdit_attention_modulation(resolution: Resolution) -> Recipe:
    """Class-conditional mmDiT with classes as Stable Diffusion 3 reads text (Esser et al. 2024):
    tokens by attention, and a vector by modulation, added to time and control.

    A vector per class replaces the pooled text. The plain recipe ``paper/mmdit-*`` has only the
    tokens.
    """
    base = comparison("mmdit", resolution, disentangled=False)
    return replace(
        base,
        conditioning=replace(base.conditioning, rules={"label": "both"}),
        init=_init_from("paper/mmdit-256-attention-modulation", resolution),
    )


def sdxl_style(name: str, resolution: Resolution) -> Recipe:
    """Class-conditional recipe with SDXL's micro-conditioning (Podell et al. 2023, section 2.2),
    and the class also in modulation."""
    base = comparison(name, resolution, disentangled=False)
    conditioning = replace(base.conditioning, rules={"label": "modulation"}, control=SDXL_CONTROL)
    return replace(base, conditioning=conditioning)


def text_comparison(name: str, resolution: Resolution, *, disentangled: bool) -> Recipe:
    """Text recipe of a denoiser: images in ``data.path`` with captions in a metadata file.

    DiT and MDTv2 read text only by the added cross-attention, so their two recipes differ only in
    padding and gate. So do PixArt-alpha's and the UNet's, since all of these read tokens by
    attention. mmDiT's plain recipe also has a pooled vector.
    """
    model, base = MODELS[name], comparison(name, resolution, disentangled=disentangled)
    pooled = model.pooled and not disentangled
    rules: dict[str, Mechanism] = {"text": "attention"}
    if pooled:
        rules["pooled"] = "modulation"
    semantic = TextSemantic(
        token_features=CLIP_FEATURES,
        pooled_features=CLIP_FEATURES if pooled else None,
        num_tokens=77,  # CLIP's maximum: unconfirmed
        projection=model.projection,
        null="learned",  # our choice: most published models use the encoder's empty caption
        # PixArt-alpha's paper masks padding; native here gives all models equally many tokens.
        padding="noisy_replicate" if disentangled else "native",
        padding_noise=0.02,  # unconfirmed
    )
    return replace(
        base,
        data=image_folder(resolution, "cc12m"),
        # Original captions of CC12M; text.captions mixes in other columns of a metadata file.
        # Tokens of the last layer, as in Stable Diffusion 1: unconfirmed.
        text=TextConfig(source=(CLIP,)),
        conditioning=replace(base.conditioning, semantic=semantic, rules=rules),
        denoiser=model.build(resolution // 16, True),
        init=_init_from(f"paper/cc12m-{name}-256{'-disentangled' * disentangled}", resolution),
        sampling=replace(
            base.sampling,
            steps=50,  # unconfirmed
            guidance=_guidance(5.0, resolution),
        ),
    )


def _init_from(recipe: str, resolution: Resolution) -> InitConfig:
    """Initialisation of a recipe: at 512 from the recipe at 256, at 256 from scratch."""
    return InitConfig(continues=recipe) if resolution == 512 else InitConfig()


def _guidance(scale: float, resolution: int) -> GuidanceConfig:
    """Guidance with a scale at 256, our choice and to be tuned for each model, which the method's
    rule 1 + s (lambda - 1) converts to 512."""
    return GuidanceConfig(semantic_scale=1 + resolution / 256 * (scale - 1))


def recipes() -> dict[str, Callable[[], Recipe]]:
    """Recipes of the comparison by name."""
    resolutions: tuple[Resolution, ...] = (256, 512)
    others: dict[str, Callable[[], Recipe]] = {
        "paper/mmdit-256-attention-modulation": partial(mmdit_attention_modulation, 256),
        "paper/mmdit-512-attention-modulation": partial(mmdit_attention_modulation, 512),
        "paper/unet-256-sdxl-style": partial(sdxl_style, "unet", 256),
    }
    return others | {
        f"paper/{data}{name}-{resolution}{'-disentangled' * disentangled}": partial(
            build, name, resolution, disentangled=disentangled
        )
        for data, build in (("", comparison), ("cc12m-", text_comparison))
        for name in MODELS
        for resolution in resolutions
        for disentangled in (False, True)
    }

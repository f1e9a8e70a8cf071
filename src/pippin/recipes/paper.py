# SPDX-License-Identifier: Apache-2.0
"""Five denoisers under one protocol, on ImageNet and on CC12M:
``pippin train paper/[cc12m-]MODEL-SIDE[-disentangled]``.

On one data set at one resolution the recipes differ in denoiser and conditioning alone. The plain
ones read class or text as their own papers do, and control constant in time; the disentangled ones
read it by attention, and low-level control under a power-cosine gate (the method of Berrada et al.
2024). Values with a comment are ours or unconfirmed.

The learning rate is a reading: see :data:`LEARNING_RATE`.
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
from pippin.denoisers.config import DenoiserConfig, dit, mdtv2, mmdit, pixart, unet
from pippin.diffusion.config import DiffusionConfig
from pippin.encoders.config import AutoencoderConfig, TextConfig
from pippin.evaluation.config import EvaluationConfig
from pippin.recipes.lengths import half_life, rarely
from pippin.recipes.openmoji import SDXL_CONTROL
from pippin.recipes.recipe import Recipe
from pippin.sampling.config import ControlRequest, GuidanceConfig, SamplingConfig
from pippin.training.config import InitConfig, TrainConfig

Resolution = Literal[256, 512]
BATCH_SIZE = 2048
LEARNING_RATE = 1e-3
"""Constant, of Adam, at :data:`BATCH_SIZE`. Unconfirmed: 1e-3 is our reading of section 3.1
(Berrada et al. 2024), at 256 pixels. At 512 pixels no rate is known: ours is the same.
The study ``learning-rate`` compares it with DiT's 1e-4 and with twice as much."""
IMAGES: dict[Resolution, int] = {256: 102_400_000, 512: 25_600_000}
"""At 256 as many as 400 thousand steps of DiT's sweep, which are 80 epochs of ImageNet and 9 of
CC12M; at 512 a quarter. Both ours."""
CLIP = "openai/clip-vit-large-patch14"  # ViT-L/14: unconfirmed
BASE_GRID = 16
"""Patches a side at 256."""
CLIP_FEATURES = 768
"""Width of its tokens and of its pooled vector."""


class Model(NamedTuple):
    """One denoiser of the comparison."""

    route: Mechanism
    """How its own paper reads a class, or where it has text only, the text's tokens."""
    build: Callable[[int, bool], DenoiserConfig]
    """From the side of the grid of patches, and whether tokens need a cross-attention."""
    projection: Literal["none", "linear", "mlp"] = "linear"
    """Of text, as in its own paper; linear is ours for DiT and MDTv2, which have no text."""
    pooled: bool = False
    """Whether its own paper has a pooled vector of the text in modulation."""


MODELS = {
    "unet": Model("attention", lambda side, crossing: unet("SD1"), projection="none"),
    # One base grid for computed positions: at 512 they lie between those of 256.
    "dit": Model(
        "modulation",
        lambda side, crossing: dit("XL", cross_attention=crossing, base_grid=BASE_GRID),
    ),
    "mdtv2": Model(
        "modulation", lambda side, crossing: mdtv2("XL", (side, side), cross_attention=crossing)
    ),
    "pixart": Model(
        "attention", lambda side, crossing: pixart("XL", base_grid=BASE_GRID), projection="mlp"
    ),
    "mmdit": Model(
        "attention", lambda side, crossing: mmdit("XL", base_grid=BASE_GRID), pooled=True
    ),
}
"""All of size XL, without learned variance; the UNet is Stable Diffusion 1's."""


def pictures_of_the_paper(resolution: Resolution, dataset: str) -> ImagesConfig:
    """A folder of images whose path is still to be given."""
    return ImagesConfig(resolution=resolution, held_out_share=0.01, dataset=dataset)


def comparison(name: str, resolution: Resolution, *, disentangled: bool) -> Recipe:
    """A denoiser of :data:`MODELS` under the common protocol, by class."""
    model = MODELS[name]
    plain = f"paper/{name}-256{'-disentangled' * disentangled}"
    side = resolution // 16  # factor 8 of the autoencoder, patches of 2
    return Recipe(
        data=pictures_of_the_paper(resolution, "imagenet-1k"),
        autoencoder=AutoencoderConfig(source="stabilityai/sd-vae-ft-ema"),
        diffusion=DiffusionConfig(schedule="sd", prediction="eps", rescale=resolution / 256),
        conditioning=ConditioningConfig(
            rules={"label": "attention" if disentangled else model.route},
            control=ControlConfig(low_gate=PowerCosineGate() if disentangled else ConstantGate()),
        ),
        denoiser=model.build(side, disentangled),
        # The paper's models at 512 start from those at 256. MDTv2, whose positions are learned,
        # takes init.transfer positions besides.
        init=_continuing(plain, resolution),
        train=rarely(
            TrainConfig(
                images=IMAGES[resolution],
                batch_size=BATCH_SIZE,
                learning_rate=LEARNING_RATE,
                betas=(0.9, 0.95),
                ema=half_life(0.9999, BATCH_SIZE),
                precision="bf16",
            )
        ),
        sampling=SamplingConfig(
            solver="ddim",
            steps=250,
            guidance=_guidance(1.5, resolution),
            control=ControlRequest(original_size=(resolution, resolution)),
        ),
        # The paper's FID is against ImageNet's validation set; here the images that are held out,
        # or that set itself by --evaluation.reference FILE.npz.
        evaluation=EvaluationConfig(num_samples=50_000, reference="validation"),
    )


def mmdit_attention_modulation(resolution: Resolution) -> Recipe:
    """mmDiT by class as Stable Diffusion 3 reads text (Esser et al. 2024): tokens by attention,
    and a vector by modulation beside time and control.

    A vector for each class stands for the pooled text. The plain recipe ``paper/mmdit-*`` has the
    tokens alone.
    """
    base = comparison("mmdit", resolution, disentangled=False)
    return replace(
        base,
        conditioning=replace(base.conditioning, rules={"label": "both"}),
        init=_continuing("paper/mmdit-256-attention-modulation", resolution),
    )


def sdxl_style(name: str, resolution: Resolution) -> Recipe:
    """A denoiser by class with control as SDXL embeds it (Podell et al. 2023, section 2.2), and
    the class in modulation beside it."""
    base = comparison(name, resolution, disentangled=False)
    conditioning = replace(base.conditioning, rules={"label": "modulation"}, control=SDXL_CONTROL)
    return replace(base, conditioning=conditioning)


def text_comparison(name: str, resolution: Resolution, *, disentangled: bool) -> Recipe:
    """The same by text: pictures in ``data.path`` with captions in a metadata file.

    No text reaches DiT and MDTv2 but by our cross-attention, so that their two recipes differ in
    padding and gate alone; so do PixArt-alpha's and the UNet's, as all of these read tokens by
    attention. mmDiT's plain recipe has a pooled vector too.
    """
    model, base = MODELS[name], comparison(name, resolution, disentangled=disentangled)
    pooled = model.pooled and not disentangled
    rules: dict[str, Mechanism] = {"text": "attention"}
    if pooled:
        rules["pooled"] = "modulation"
    semantic = TextSemantic(
        token_features=CLIP_FEATURES,
        pooled_features=CLIP_FEATURES if pooled else None,
        num_tokens=77,  # all that CLIP has: unconfirmed
        projection=model.projection,
        null="learned",  # ours: most published models have the encoder's empty caption
        # PixArt-alpha's paper masks what is native here, so that all read equally many tokens.
        padding="noisy_replicate" if disentangled else "native",
        padding_noise=0.02,  # unconfirmed
    )
    return replace(
        base,
        data=pictures_of_the_paper(resolution, "cc12m"),
        # Original captions of CC12M. Other columns of a metadata file are mixed in by
        # text.captions. Tokens of the last layer, as in Stable Diffusion 1: unconfirmed.
        text=TextConfig(source=(CLIP,)),
        conditioning=replace(base.conditioning, semantic=semantic, rules=rules),
        denoiser=model.build(resolution // 16, True),
        init=_continuing(f"paper/cc12m-{name}-256{'-disentangled' * disentangled}", resolution),
        sampling=replace(
            base.sampling,
            steps=50,  # unconfirmed
            guidance=_guidance(5.0, resolution),
        ),
    )


def _continuing(recipe: str, resolution: Resolution) -> InitConfig:
    """What a recipe goes on from: at 512 that of 256, at 256 nothing."""
    return InitConfig(continues=recipe) if resolution == 512 else InitConfig()


def _guidance(scale: float, resolution: int) -> GuidanceConfig:
    """A scale at 256, ours and to be searched for each model, and at 512 what the method's law
    1 + s (lambda - 1) makes of it."""
    return GuidanceConfig(semantic_scale=1 + resolution / 256 * (scale - 1))


def recipes() -> dict[str, Callable[[], Recipe]]:
    """All of them by name."""
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

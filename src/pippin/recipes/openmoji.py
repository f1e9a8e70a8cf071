# SPDX-License-Identifier: Apache-2.0
"""Recipes for the embedded OpenMoji images: they run anywhere, offline."""

from dataclasses import replace

from pippin.conditioning.config import (
    ConditioningConfig,
    ConstantGate,
    ControlConfig,
    LabelSemantic,
    Mechanism,
    PowerCosineGate,
    TextSemantic,
)
from pippin.config import replace_at
from pippin.data.config import CacheConfig, OpenMojiConfig
from pippin.denoisers.ddt.config import ddt
from pippin.denoisers.dit.config import dit
from pippin.denoisers.jit.config import X_PREDICTION, jit
from pippin.denoisers.mdtv2.config import mdtv2
from pippin.denoisers.mmdit.config import mmdit
from pippin.denoisers.pixart.config import pixart
from pippin.denoisers.unet.config import unet
from pippin.diffusion.config import (
    AdaptiveWeight,
    DiffusionConfig,
    LogitNormalTime,
    MeanFlowConfig,
)
from pippin.encoders.config import PIXELS, AutoencoderConfig
from pippin.evaluation.config import EvaluationConfig
from pippin.recipes.recipe import Recipe
from pippin.sampling.config import GuidanceConfig, SamplingConfig
from pippin.training.averaging.config import ShareHalfLife
from pippin.training.config import TrainConfig

SDXL_CONTROL = ControlConfig(
    high=("crop_corner", "crop_size"), low=("original_size",), embedding="sdxl"
)
"""SDXL's micro-conditioning: original size and crop corner in pixels. The crop size replaces its
target size, which is constant if all training images have one size: here crops do not always have
the full shorter side."""


def mmdit_disentangled() -> Recipe:
    """mmDiT with class by attention and low-level control under a power-cosine gate.

    Rectified flow with logit-normal time is mmDiT's own objective (Esser et al. 2024). Muon and
    the decay are our choices: at equal CPU time they reach a much smaller KID than Adam alone on
    these images (docs/reference/training.md).
    """
    return Recipe(
        data=OpenMojiConfig(),
        diffusion=DiffusionConfig(
            schedule="flow", prediction="flow", time_density=LogitNormalTime()
        ),
        conditioning=ConditioningConfig(
            rules={"label": "attention"},
            control=ControlConfig(low_gate=PowerCosineGate()),
        ),
        denoiser=mmdit("tiny"),
        train=TrainConfig(
            images=200_000,
            batch_size=128,
            learning_rate=1e-3,
            muon_learning_rate=2e-2,
            warmup_images=5_000,
            decay_share=0.2,
            ema=ShareHalfLife(share=0.02),
            precision="fp32",  # these recipes are for CPUs, and many have no bf16 units
        ),
        sampling=SamplingConfig(guidance=GuidanceConfig(semantic_scale=2.0)),
    )


def mmdit_entangled() -> Recipe:
    """mmDiT with class by modulation and all control constant in time."""
    base = mmdit_disentangled()
    control = replace(base.conditioning.control, low_gate=ConstantGate())
    return replace(
        base,
        conditioning=replace(base.conditioning, rules={"label": "modulation"}, control=control),
    )


def mmdit_sdxl_style() -> Recipe:
    """mmDiT with class by modulation and SDXL's micro-conditioning: raw numbers through one
    sinusoid and one MLP, constant in time (Podell et al. 2023, section 2.2)."""
    base = mmdit_entangled()
    return replace(base, conditioning=replace(base.conditioning, control=SDXL_CONTROL))


def mmdit_attention_modulation() -> Recipe:
    """mmDiT with class by attention and by modulation, as SD3 reads text; control constant in
    time."""
    base = mmdit_entangled()
    return replace(base, conditioning=replace(base.conditioning, rules={"label": "both"}))


def mmdit_demo() -> Recipe:
    """Base recipe of ``pippin demo``: a few minutes per arm on two cores, from trained weights."""
    base = mmdit_disentangled()
    return replace(
        base,
        data=OpenMojiConfig(views=2),
        train=replace(
            base.train,
            images=10_000,
            learning_rate=6e-5,  # a twentieth, for trained weights; decays at once
            muon_learning_rate=1e-3,
            warmup_images=1_000,
            decay_share=1.0,
            lr_at="end",  # as in the runs of docs/reference/models.md
            validate_every=2_500,
            preview_every=5_000,
            checkpoint_every=5_000,
            log_every=500,
        ),
        sampling=replace(base.sampling, solver="dpm++", steps=16),
        evaluation=EvaluationConfig(num_samples=400, input_size=64),
    )


def mmdit_quick_demo() -> Recipe:
    """Base recipe of ``pippin demo --budget quick``: less than half of :func:`mmdit_demo`.

    The untrained model, whose samples cost as much as those of the trained one, is not measured.
    """
    base = mmdit_demo()
    train = replace(
        base.train,
        images=4_096,
        warmup_images=512,
        validate_every=2_048,
        preview_every=0,
        checkpoint_every=2_048,
        log_every=256,
    )
    evaluation = replace(
        base.evaluation,
        parts=tuple(part for part in base.evaluation.parts if part != "untrained"),
        num_samples=200,
        kid_subset_size=100,
        drift_pairs=32,
    )
    recipe = replace(base, train=train, evaluation=evaluation)
    return replace_at(recipe, "data.views", 1)


def dit_entangled() -> Recipe:
    """DiT with adaLN-zero."""
    return replace(mmdit_entangled(), denoiser=dit("tiny", qk_norm=True))


def dit_disentangled() -> Recipe:
    """DiT with cross-attention to class tokens."""
    denoiser = dit("tiny", qk_norm=True, cross_attention=True)
    return replace(mmdit_disentangled(), denoiser=denoiser)


def dit_meanflow() -> Recipe:
    """DiT that learns mean velocities and samples in one step (Geng et al. 2025), with their
    times, weight and guidance in training.

    Times of [0, 1] are read: with times of [0, 1000] the derivative that the target holds is a
    thousand times as large.
    """
    base = dit_entangled()
    return replace(
        base,
        diffusion=MEANFLOW,
        conditioning=replace(base.conditioning, interval=True),
        denoiser=dit("tiny", qk_norm=True, time_input="data"),
        sampling=SamplingConfig(solver="meanflow", steps=1),
    )


MEANFLOW = DiffusionConfig(
    schedule="flow",
    prediction="flow",
    time_density=LogitNormalTime(mean=-0.4, std=1.0),
    loss_weight=AdaptiveWeight(power=1.0, offset=0.01),
    meanflow=MeanFlowConfig(share=0.25, omega=1.0, kappa=0.5),
)
"""Mean velocities as the authors' code learns them for DiT-B/4."""

GRID = (8, 8)
"""Grid of patches of an OpenMoji latent, which is 16 x 16."""


def mdtv2_entangled() -> Recipe:
    """MDTv2 with its masked pass."""
    return replace(mmdit_entangled(), denoiser=mdtv2("tiny", GRID, qk_norm=True))


def mdtv2_disentangled() -> Recipe:
    """MDTv2 with cross-attention to class tokens."""
    denoiser = mdtv2("tiny", GRID, qk_norm=True, cross_attention=True)
    return replace(mmdit_disentangled(), denoiser=denoiser)


def pixart_entangled() -> Recipe:
    """PixArt-alpha; its cross-attention reads constant tokens."""
    return replace(mmdit_entangled(), denoiser=pixart("tiny", qk_norm=True))


def pixart_disentangled() -> Recipe:
    """PixArt-alpha with class tokens instead of text."""
    return replace(mmdit_disentangled(), denoiser=pixart("tiny", qk_norm=True))


def unet_entangled() -> Recipe:
    """Latent diffusion's UNet; its cross-attention reads constant tokens."""
    return replace(mmdit_entangled(), denoiser=unet("tiny", qk_norm=True))


def unet_disentangled() -> Recipe:
    """Latent diffusion's UNet with cross-attention to class tokens."""
    return replace(mmdit_disentangled(), denoiser=unet("tiny", qk_norm=True))


def jit_entangled() -> Recipe:
    """JiT on latents, without condition tokens."""
    return replace(mmdit_entangled(), denoiser=jit("tiny", context=False, patch_size=2))


def jit_disentangled() -> Recipe:
    """JiT on latents, with class tokens in context."""
    return replace(mmdit_disentangled(), denoiser=jit("tiny", context=True, patch_size=2))


def in_pixels(recipe: Recipe) -> Recipe:
    """Recipe of JiT for pixels: no autoencoder, prediction of x0 with the loss of the velocity
    (Li & He 2025), and 32 pixels in patches of 4, as many tokens as 64 pixels in latents."""
    return replace(
        recipe,
        data=replace_at(recipe.data, "resolution", 32),
        autoencoder=AutoencoderConfig(source=PIXELS),
        cache=CacheConfig(dtype="float16"),  # levels of 255 survive
        diffusion=X_PREDICTION,
        denoiser=replace_at(recipe.denoiser, "patch_size", 4),
    )


def jit_pixels() -> Recipe:
    """JiT on pixels with its own conditioning: the class by modulation, and as one token that is
    repeated in context; control constant in time."""
    base = mmdit_attention_modulation()
    semantic = LabelSemantic(num_tokens=1)
    return in_pixels(
        replace(
            base,
            conditioning=replace(base.conditioning, semantic=semantic),
            denoiser=jit("tiny", context=True, context_repeats=4),
        )
    )


def jit_pixels_disentangled() -> Recipe:
    """JiT on pixels with class tokens in context only."""
    return in_pixels(jit_disentangled())


def ddt_entangled() -> Recipe:
    """DDT, whose encoder reads class and control by modulation."""
    return replace(mmdit_entangled(), denoiser=ddt("tiny"))


def ddt_disentangled() -> Recipe:
    """DDT with cross-attention to class tokens in its encoder."""
    return replace(mmdit_disentangled(), denoiser=ddt("tiny", cross_attention=True))


MINILM = TextSemantic(token_features=384, num_tokens=24, padding="noisy_replicate")
"""Captions encoded by all-MiniLM-L6-v2; the longest name of an image has 22 tokens."""


def with_text(recipe: Recipe) -> Recipe:
    """Recipe with the names of images as text, by attention, instead of classes.

    This is the disentangled conditioning of Berrada et al. 2024: text by attention only, with
    noisy replicate padding.
    """
    semantic = MINILM
    if recipe.denoiser.projected_width is not None:
        semantic = replace(semantic, projection="none")
        recipe = replace(recipe, denoiser=recipe.denoiser.with_projected_width(384))
    conditioning = replace(recipe.conditioning, semantic=semantic, rules={"text": "attention"})
    return replace(recipe, conditioning=conditioning)


NEW_PAIRS = (
    # a colour and an object, in either art
    *("green apple", "blue book", "purple circle", "large blue diamond"),
    *("white exclamation mark", "yellow flag", "blue hexagon"),
    *("jar with purple content", "white chess knight"),
    # an art and an object
    *("rocket, openmoji", "banana, openmoji", "owl, openmoji", "guitar, openmoji"),
    *("umbrella, openmoji", "house, openmoji", "camera, openmoji", "pizza, openmoji"),
    *("elephant, openmoji", "cactus, openmoji", "sailboat, openmoji", "carrot, openmoji"),
    *("strawberry, twemoji", "penguin, twemoji", "snowman, twemoji", "hammer, twemoji"),
    *("key, twemoji", "bell, twemoji", "crown, twemoji", "snail, twemoji"),
    *("hot beverage, twemoji", "fish, twemoji", "bus, twemoji", "cherries, twemoji"),
)
"""Combinations held out of :func:`mmdit_disentangled_text_styles`, while other images show each
attribute and each object: a test of compositional generalisation."""


def mmdit_disentangled_text_styles() -> Recipe:
    """Text-to-image mmDiT for OpenMoji and Twemoji, whose names are caption words."""
    base = with_text(mmdit_disentangled())
    captions = {"style": 2.0, "name": 1.0, "tags": 1.0}
    return replace(
        base,
        data=OpenMojiConfig(art=("openmoji", "twemoji"), left_out=NEW_PAIRS),
        text=replace(base.text, captions=captions),
    )


def mmdit_entangled_text() -> Recipe:
    """mmDiT with text as in SD3: tokens by attention, a pooled vector by modulation; control
    constant in time."""
    base = mmdit_entangled()
    semantic = replace(MINILM, pooled_features=384, padding="native")
    rules: dict[str, Mechanism] = {"text": "attention", "pooled": "modulation"}
    return replace(base, conditioning=replace(base.conditioning, semantic=semantic, rules=rules))

# SPDX-License-Identifier: Apache-2.0
"""Configuration tree of one run, and the latent shape that follows from it."""

from dataclasses import dataclass, field
from pathlib import Path

from pippin.conditioning.config import ConditioningConfig
from pippin.config import Config, read_by_kind
from pippin.data.config import CacheConfig, DataConfig, NoDataConfig
from pippin.denoisers.config import DenoiserConfig
from pippin.denoisers.registry import denoiser_config
from pippin.diffusion.config import DiffusionConfig
from pippin.encoders.classes import LatentLayout, read_layout
from pippin.encoders.config import SHIPPED_PREFIX, AutoencoderConfig, TextConfig
from pippin.evaluation.config import EvaluationConfig
from pippin.sampling.config import SamplingConfig
from pippin.training.config import InitConfig, TrainConfig

read_by_kind(DenoiserConfig, denoiser_config)


@dataclass(frozen=True, kw_only=True)
class Recipe(Config):
    """All settings of a run, stored in config.json of its folder."""

    FORMAT = "run"

    family: str = ""
    """Protocol of the recipe, the first part of its name: published, paper, ... A study compares
    within one family, unless the family is on one of its axes."""
    data: DataConfig | NoDataConfig
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    text: TextConfig = field(default_factory=TextConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    conditioning: ConditioningConfig = field(default_factory=ConditioningConfig)
    denoiser: DenoiserConfig
    init: InitConfig = field(default_factory=InitConfig)
    train: TrainConfig
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    seed: int = 0
    """Seed of initial weights, order, time, noise, dropped conditions."""


Shape = tuple[int, int, int]
DEFAULT = LatentLayout(factor=8, channels=4)
"""Latents of Stable Diffusion's autoencoder."""
LATENTS: dict[str, LatentLayout] = {
    "stabilityai/sd-vae-ft-ema": DEFAULT,
    "stabilityai/sd-vae-ft-mse": DEFAULT,
    "stabilityai/sdxl-vae": DEFAULT,
    "madebyollin/taesd": LatentLayout(factor=8, channels=4, has_variance=False),
    "madebyollin/taesdxl": LatentLayout(factor=8, channels=4, has_variance=False),
    "madebyollin/taesd3": LatentLayout(factor=8, channels=16, has_variance=False),
    "madebyollin/taef1": LatentLayout(factor=8, channels=16, has_variance=False),
    "mit-han-lab/dc-ae-f32c32-sana-1.0-diffusers": LatentLayout(
        factor=32, channels=32, has_variance=False
    ),
    "kl-f4": LatentLayout(factor=4, channels=3),
    "sd3-vae": LatentLayout(factor=8, channels=16),
    "va-vae-f16d32": LatentLayout(factor=16, channels=32),
}
"""Latents of autoencoders that are not shipped. The last three, which recipes name, are folders
that a user makes: their originals are not folders of an autoencoder of diffusers."""


def latent_layout(recipe: Recipe) -> LatentLayout:
    """Latents of a recipe's autoencoder.

    For a shipped autoencoder or a local folder they follow from its config.json. Those of some
    others are known; the rest is assumed to be like Stable Diffusion's.

    Raises:
        ValueError: the folder is damaged or of an unsupported class.
    """
    from pippin.encoders.source import find_autoencoder, read_config

    if not is_local(recipe):
        return LATENTS.get(recipe.autoencoder.source, DEFAULT)
    folder = find_autoencoder(recipe.autoencoder)
    settings = read_config(folder)
    try:
        return read_layout(settings)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def factor_and_channels(recipe: Recipe) -> tuple[int, int]:
    """Downsampling factor and number of latent channels; see :func:`latent_layout`."""
    layout = latent_layout(recipe)
    return layout.factor, layout.channels


def has_known_latents(recipe: Recipe) -> bool:
    """True if the result of :func:`factor_and_channels` is known, not assumed."""
    return recipe.autoencoder.source in LATENTS or is_local(recipe)


def is_local(recipe: Recipe) -> bool:
    """True if the recipe's autoencoder is shipped or in a local folder."""
    source = recipe.autoencoder.source
    return source.startswith(SHIPPED_PREFIX) or Path(source).is_dir()


def patches_per_side(recipe: Recipe) -> int:
    """Number of patches along the side of a square image; a UNet's patches are latent pixels.

    Raises:
        ValueError: as :func:`latent_shape_of`.
    """
    patch: int = getattr(recipe.denoiser, "patch_size", 1)
    return latent_shape_of(recipe)[1] // patch


def known_patches_per_side(recipe: Recipe) -> int | None:
    """Like :func:`patches_per_side`; None if the autoencoder's factor is assumed or unreadable."""
    try:
        return patches_per_side(recipe) if has_known_latents(recipe) else None
    except ValueError:
        return None


def latent_shape_of(recipe: Recipe) -> Shape:
    """Shape (channels, height, width) of a recipe's latents at its resolution.

    Raises:
        ValueError: the factor does not divide the resolution, or the autoencoder's folder is
            damaged.
    """
    factor, channels = factor_and_channels(recipe)
    side = recipe.data.resolution
    if side % factor:
        raise ValueError(
            f"data.resolution {side} is not a multiple of the autoencoder's factor {factor}; "
            "choose another resolution, or give `pippin show` a --latent-shape"
        )
    return channels, side // factor, side // factor

# SPDX-License-Identifier: Apache-2.0
"""What latents a recipe has, known without loading its autoencoder."""

from pathlib import Path

from pippin.recipes.recipe import Recipe
from pippin.system.json_text import parse_json
from pippin.system.regular import read_regular

Shape = tuple[int, int, int]
LATENTS: dict[str, tuple[int, int]] = {
    "stabilityai/sd-vae-ft-ema": (8, 4),
    "stabilityai/sd-vae-ft-mse": (8, 4),
    "kl-f4": (4, 3),
    "sd3-vae": (8, 16),
}
"""Factor and channels of the autoencoders that recipes name and the package does not hold. The
last two are folders that a user makes: their originals are no AutoencoderKL folder of their own.
"""
DEFAULT = (8, 4)
"""Of Stable Diffusion's autoencoder."""


def factor_and_channels(recipe: Recipe) -> tuple[int, int]:
    """How much smaller a latent's sides are than an image's, and how many channels it has.

    A shipped autoencoder and a local folder are read from their config.json; of others, those
    that recipes name are known, and the rest is taken for one like Stable Diffusion's.
    """
    from pippin.encoders.source import CONFIG_FILE, SHIPPED_PREFIX, find_autoencoder

    source = recipe.autoencoder.source
    if not source.startswith(SHIPPED_PREFIX) and not Path(source).is_dir():
        return LATENTS.get(source, DEFAULT)
    path = find_autoencoder(recipe.autoencoder) / CONFIG_FILE
    try:
        config = parse_json(read_regular(path))
        return 2 ** (len(config["block_out_channels"]) - 1), int(config["latent_channels"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged or no AutoencoderKL's: {error!r}") from error


def is_known(recipe: Recipe) -> bool:
    """Whether :func:`factor_and_channels` knows rather than assumes."""
    return recipe.autoencoder.source in LATENTS or is_here(recipe)


def is_here(recipe: Recipe) -> bool:
    """Whether the recipe's autoencoder can be read without the hub."""
    source = recipe.autoencoder.source
    return source.startswith("pippin/") or Path(source).is_dir()


def patches_a_side(recipe: Recipe) -> int:
    """Of a square image; a UNet's are single latent positions.

    Raises:
        ValueError: as :func:`latent_shape_of`.
    """
    patch: int = getattr(recipe.denoiser, "patch_size", 1)
    return latent_shape_of(recipe)[1] // patch


def known_patches_a_side(recipe: Recipe) -> int | None:
    """The same; None where the autoencoder's factor is assumed, or can no longer be read."""
    try:
        return patches_a_side(recipe) if is_known(recipe) else None
    except ValueError:
        return None


def latent_shape_of(recipe: Recipe) -> Shape:
    """(channels, height, width) of a recipe's latents at its resolution.

    Raises:
        ValueError: a resolution that does not divide, or an autoencoder's folder that is damaged.
    """
    factor, channels = factor_and_channels(recipe)
    side = recipe.data.resolution
    if side % factor:
        raise ValueError(
            f"data.resolution {side} is no multiple of the autoencoder's {factor}; "
            "choose another, or tell `pippin show` the --latent-shape"
        )
    return channels, side // factor, side // factor

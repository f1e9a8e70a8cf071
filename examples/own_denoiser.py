# SPDX-License-Identifier: Apache-2.0
"""Train a custom denoiser: convolutions with modulation, without attention.

python examples/own_denoiser.py                   # two minutes on one core: runs/own-denoiser
cd examples
pippin show mine/conv --import own_denoiser       # the command line accepts it by name
pippin train mine/conv --import own_denoiser --denoiser.width 96 --folder runs/conv
pippin sample runs/conv --import own_denoiser --labels flags
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch.nn.functional as F
from torch import nn

from pippin import Recipe, draw, get_recipe, load_run, register_denoiser, train
from pippin.denoisers.config import DenoiserConfig
from pippin.denoisers.denoiser import Denoiser, Widths
from pippin.images.files import image_grid, save_png
from pippin.nn.initialise import Conv2d, GroupNorm, Linear, zeros
from pippin.recipes.table import RECIPES
from pippin.settings.bounds import at_least
from pippin.types import Embedded, Latents, Masking, Prediction


@dataclass(frozen=True, kw_only=True)
class ConvConfig(DenoiserConfig):
    """Fields become options, such as --denoiser.width, and settings in config.json."""

    kind: Literal["conv"] = "conv"
    width: int = 64
    depth: int = 6

    def __post_init__(self) -> None:
        at_least(self, "denoiser", 1, "width", "depth")


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = GroupNorm(1, width)
        self.modulation = Linear(width, 2 * width)
        self.spread, self.mix = Conv2d(width, width, 5), Conv2d(width, width, 1)

    def forward(self, x, modulation):
        shift, scale = self.modulation(F.silu(modulation))[..., None, None].chunk(2, dim=1)
        return x + self.mix(F.silu(self.spread(self.norm(x) * (1 + scale) + shift)))


class Conv(Denoiser):
    """Position information comes only from the padding, so latents may have any size."""

    def __init__(self, config: ConvConfig, latent_channels: int) -> None:
        super().__init__()
        self.widths = Widths(token=config.width, modulation=config.width, time_features=256)
        self.token_use = "none"
        self.first = Conv2d(latent_channels, config.width, 3)
        self.blocks = nn.ModuleList(Block(config.width) for _ in range(config.depth))
        self.last = Conv2d(config.width, latent_channels, 3, init=zeros)

    def forward(
        self, x_t: Latents, embedded: Embedded, masking: Masking | None = None
    ) -> Prediction:
        x = self.first(x_t)  # (B, C, H, W) -> (B, D, H, W)
        for block in self.blocks:
            x = block(x, embedded.modulation)
        return Prediction(mean=self.last(x))  # (B, C, H, W)


def recipe() -> Recipe:
    """Class-conditional recipe with modulation and the custom denoiser."""
    return replace(get_recipe("openmoji/dit-entangled"), denoiser=ConvConfig())


def train_and_draw(recipe: Recipe, folder: Path) -> None:
    train(recipe, folder, resume="auto")
    run = load_run(folder)
    labels = [seed % len(run.class_names) for seed in range(16)]
    save_png(image_grid(draw(run, labels, range(16))), folder / "grid.png")
    print(f"16 images: {folder / 'grid.png'}")


# Importing this module registers the denoiser, also in the processes of studies.
register_denoiser(ConvConfig, Conv)
RECIPES["mine/conv"] = recipe

if __name__ == "__main__":
    short = replace(recipe(), train=replace(recipe().train, images=5_000))
    train_and_draw(short, Path("runs/own-denoiser"))

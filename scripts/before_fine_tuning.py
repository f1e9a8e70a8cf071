# SPDX-License-Identifier: Apache-2.0
"""Error of low-resolution weights at high resolution, before fine-tuning.

    python scripts/before_fine_tuning.py --folder runs/before-fine-tuning [--images 60000]

Each of the five denoisers is trained at 32 pixels, then transferred to a model at 64 pixels with
positions extrapolated or resampled, and with the noise schedule kept or rescaled. Measured on
held-out images: the x0-error at fixed log-SNRs of the 64-pixel latents. At equal log-SNR the
content sees equal noise, whatever its index in a schedule, so all columns are comparable; losses
over a schedule's own times would not be. The model at its initial weights is the reference.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from pippin.config import replace_at
from pippin.denoisers.mdtv2.config import MDTv2Config
from pippin.evaluation.runs.held_out import HeldOut
from pippin.model import LatentDenoiser
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import get_recipe
from pippin.runs.components import Components
from pippin.runs.trained import load_trained_weights
from pippin.studies.execution import pretrain
from pippin.studies.shipped.transfer import at_half_resolution
from pippin.transfer.merge import merge
from pippin.transfer.rules import TransferEnds

KINDS = ("mmdit", "dit", "mdtv2", "pixart", "unet")
LOW_GRID = 4
"""Patches per side at 32 pixels."""
LOG_SNRS = (-6.0, -4.0, -2.0, 0.0, 2.0)


def low_recipe(kind: str, images: int, caches: str) -> Recipe:
    """Recipe of the training at 32 pixels."""
    high = get_recipe(f"openmoji/{kind}-disentangled")
    low = at_half_resolution(high)
    if isinstance(low.denoiser, MDTv2Config):
        low = replace(low, denoiser=replace(low.denoiser, grid=(LOW_GRID, LOW_GRID)))
    train = replace(
        low.train, images=images, batch_size=64, preview_every=0, checkpoint_every=images
    )
    return replace(low, train=train, cache=replace(low.cache, folder=caches))


def arms(kind: str) -> dict[str, Recipe]:
    """Arms at 64 pixels: positions x noise schedule; a UNet has no positions."""
    high = get_recipe(f"openmoji/{kind}-disentangled")
    evaluation = replace(high.evaluation, loss_log_snrs=LOG_SNRS)
    high = replace(high, evaluation=evaluation)
    positions: dict[str, Recipe] = {"convolution": high}
    if kind == "mdtv2":
        positions = {"resampled": high}
    elif kind != "unet":
        resampled = replace_at(high, "denoiser.base_grid", LOW_GRID)
        positions = {"extrapolated": high, "resampled": resampled}
    return {
        f"{where}, {noise}": replace(recipe, diffusion=replace(recipe.diffusion, rescale=ratio))
        for where, recipe in positions.items()
        for noise, ratio in (("noise kept", 1.0), ("noise rescaled", 2.0))
    }


def errors(held_out: HeldOut, model: LatentDenoiser) -> list[str]:
    """x0-error at each log-SNR, with its interval over images."""
    measures = {measure.name: measure for measure in held_out.losses(model.eval())}
    cells = []
    for level in LOG_SNRS:
        error = measures[f"x0-error at log-SNR {level:g}"]
        assert error.low is not None and error.high is not None
        cells.append(f"{error.value:.3f} ± {(error.high - error.low) / 2:.3f}")
    return cells


def main() -> int:
    """Train missing models, transfer, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--images", type=int, default=60_000)
    options = parser.parse_args()
    console: Any = Console(stderr=True)
    print("| denoiser | transfer | " + " | ".join(f"log-SNR {x:g}" for x in LOG_SNRS) + " |")
    print("| --- " * (len(LOG_SNRS) + 2) + "|")
    for kind in KINDS:
        low = low_recipe(kind, options.images, str(options.folder / "caches"))
        folder = options.folder / f"{kind}-low"
        pretrain(low, folder)
        start = load_trained_weights(str(folder))
        for name, recipe in arms(kind).items():
            components = Components(recipe, console)
            held_out, model = HeldOut(components), components.new_model()
            if name.endswith("kept") and ("extrapolated" in name or kind in ("unet", "mdtv2")):
                print(f"| {kind} | initial weights | {' | '.join(errors(held_out, model))} |")
            ends = TransferEnds(old=low.denoiser, new=recipe.denoiser)
            rules = ("positions",) if kind == "mdtv2" else ()
            weights, _ = merge(start.tensors, model, ends, rules)
            model.load_state_dict(weights)
            print(f"| {kind} | {name} | {' | '.join(errors(held_out, model))} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

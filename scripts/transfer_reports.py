# SPDX-License-Identifier: Apache-2.0
"""Transfer reports of the five tiny denoisers: 64 to 128 pixels, and class to text.

    python scripts/transfer_reports.py

Prints the counts of each report, the tensors that were not copied, and finally the error message
for tensors without a rule. Weights are initial ones: only names and shapes matter.
"""

from dataclasses import replace

from pippin.data.sources.openmoji_table import CLASSES
from pippin.denoisers.config import DenoiserConfig
from pippin.denoisers.mdtv2.config import MDTv2Config
from pippin.model import LatentDenoiser, build_model
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import get_recipe
from pippin.training.config import RuleName
from pippin.transfer.merge import merge
from pippin.transfer.rules import TransferEnds

KINDS = ("mmdit", "dit", "mdtv2", "pixart", "unet")
CHANNELS = 4


def built(recipe: Recipe, denoiser: DenoiserConfig) -> LatentDenoiser:
    """The recipe's model with another denoiser configuration."""
    return build_model(
        recipe.conditioning, denoiser, num_classes=len(CLASSES), latent_channels=CHANNELS, seed=0
    )


def at_128(denoiser: DenoiserConfig) -> DenoiserConfig:
    """Denoiser with a grid of twice the side; computed positions are resampled."""
    if isinstance(denoiser, MDTv2Config):
        return replace(denoiser, grid=(2 * denoiser.grid[0], 2 * denoiser.grid[1]))
    if hasattr(denoiser, "base_grid"):
        return replace(denoiser, base_grid=8)
    return denoiser


def line(
    name: str,
    old: LatentDenoiser,
    new: LatentDenoiser,
    ends: TransferEnds,
    rules: tuple[RuleName, ...],
) -> str:
    """Row of the table."""
    _, report = merge(dict(old.named_parameters()), new, ends, rules)
    counts = report.counts()
    cells = [
        str(counts.get(action, 0)) for action in ("copied", "resampled", "initialised", "dropped")
    ]
    others = [record.name for record in report.moved if record.action != "copied"]
    shown = ", ".join(f"`{name}`" for name in others[:3]) + (", ..." if len(others) > 3 else "")
    return f"| {name} | {' '.join(rules) or 'none'} | {' | '.join(cells)} | {shown} |"


def main() -> None:
    """Print two rows per denoiser, then the message."""
    print("| transfer | rules | copied | resampled | initialised | dropped | not copied |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind in KINDS:
        by_class = get_recipe(f"openmoji/{kind}-disentangled")
        by_text = get_recipe(f"openmoji/{kind}-disentangled-text")
        low, high = by_class.denoiser, at_128(by_class.denoiser)
        old = built(by_class, low)
        rules: tuple[RuleName, ...] = ("positions",) if kind == "mdtv2" else ()
        print(
            line(
                f"{kind}, 64 to 128 px",
                old,
                built(by_class, high),
                TransferEnds(old=low, new=high),
                rules,
            )
        )
        ends = TransferEnds(old=low, new=by_text.denoiser)
        print(
            line(
                f"{kind}, class to text",
                old,
                built(by_text, by_text.denoiser),
                ends,
                ("semantics",),
            )
        )
    try:
        merge(dict(old.named_parameters()), built(by_text, by_text.denoiser), ends, ())
    except ValueError as error:
        print(f"\n{error}")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Questions that scenes of known truth can decide: the data set ``shapes`` and its readers."""

from dataclasses import replace

from pippin.denoisers.config import mmdit
from pippin.evaluation.config import EvaluationConfig
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import get_recipe
from pippin.studies.scales import ScaleName
from pippin.study.contrasts import difference, minus
from pippin.study.study import Axis, Study

IMAGES: dict[ScaleName, int] = {"demo": 10_000, "cpu": 60_000, "gpu-hour": 2_000_000}
SEEDS = (20, 21, 22, 23, 24, 25)
SMALLEST_ACCURACY = 0.03
"""Of the share of samples that show all that their caption states."""
PADDINGS = {
    "native": "native",
    "mask": "mask",
    "replicate": "replicate",
    "noisy": "noisy_replicate",
}
"""Arm -> rule; native, what the encoder itself puts there, is what SD3 attends to."""


def shapes_padding_study(scale: ScaleName) -> Study:
    """Does padding matter for what a sample shows, and most where captions are short?"""
    arms = ("native", "noisy")
    short = difference(
        *arms,
        "accuracy all short",
        name="noisy replicate less native, short captions",
        claim="Noisy replicate padding makes samples of short captions more often right.",
        smallest_effect=SMALLEST_ACCURACY,
        predicted="positive",
    )
    long = difference(
        *arms,
        "accuracy all long",
        name="noisy replicate less native, long captions",
        claim="It makes samples of long captions more often right.",
        role="secondary",
        predicted="positive",
    )
    return Study(
        name=f"shapes-padding-{scale}",
        title="Padding of short and long captions",
        question=(
            "Does filling the places that a short caption leaves with noisy copies of its tokens "
            "make samples show more often what the caption states?"
        ),
        base=captions_base(scale),
        axes={
            "padding": Axis(
                levels={
                    arm: {"conditioning.semantic.padding": rule} for arm, rule in PADDINGS.items()
                },
                description="what stands in the places that a caption leaves",
            )
        },
        seeds=SEEDS[:1] if scale == "demo" else SEEDS,
        primary="accuracy all short",
        companions=("accuracy all long", "held-out loss"),
        smallest_effect=SMALLEST_ACCURACY,
        contrasts=(
            short,
            difference(
                "replicate",
                "noisy",
                "accuracy all short",
                name="noisy less plain replicate, short captions",
                claim="The noise on the copies makes samples of short captions more often right.",
                smallest_effect=SMALLEST_ACCURACY,
                predicted="positive",
            ),
            minus(
                short,
                long,
                name="short less long",
                claim="Noisy replicate padding helps short captions more than long ones.",
                smallest_effect=SMALLEST_ACCURACY,
                predicted="positive",
            ),
            long,
            difference(
                "mask",
                "noisy",
                "accuracy all short",
                name="noisy replicate less mask, short captions",
                claim="Noisy replicate padding is better than attending to no padding at all.",
                role="secondary",
                predicted="positive",
            ),
        ),
        prediction=(
            "Learned from earlier runs on drawings, where no rule was ahead: differences between "
            "rules will be smaller than 0.03, and noise will not matter."
        ),
    )


def captions_base(scale: ScaleName) -> Recipe:
    """mmDiT of captions of scenes, at a budget, measured by reading its samples."""
    recipe = get_recipe("shapes/mmdit-disentangled-text")
    train = replace(recipe.train, images=IMAGES[scale], preview_every=0, validate_every=0)
    if scale == "cpu":  # patches of 4 leave a quarter of the tokens
        recipe = replace(recipe, denoiser=mmdit("tiny", patch_size=4))
        train = replace(train, batch_size=64, precision="bf16", checkpoint_every=20_000)
    elif scale == "gpu-hour":
        recipe = replace(recipe, denoiser=mmdit("B"))
        train = replace(train, batch_size=512, precision="bf16", checkpoint_every=500_000)
    return replace(
        recipe,
        train=train,
        sampling=replace(recipe.sampling, solver="dpm++", steps=16, precision="bf16"),
        evaluation=EvaluationConfig(
            parts=("held-out", "quality", "scene", "real"),
            num_samples=512,
            input_size=64,
            seed_from_training=True,
        ),
    )

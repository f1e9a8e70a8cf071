# SPDX-License-Identifier: Apache-2.0
"""Deferred masking of tokens (Sehwag et al. 2024, arXiv 2407.15811): is the patch mixer worth its
block, and what do three quarters fewer tokens cost at equal images?"""

from pippin.denoisers.dit.config import dit
from pippin.studies.contrasts import Contrast, difference
from pippin.studies.shipped.recent.base import SHAPES, SMALLEST_LOSS, dit_base
from pippin.studies.shipped.scales import SEEDS, ScaleName
from pippin.studies.study import Axis, Study
from pippin.training.masking.config import NO_MASKING, MaskingConfig

MASKED = MaskingConfig(ratio=0.75, unmasked_share=0.25)
"""The published share of hidden tokens, and a longer end without masking than the published
tenth: these runs are short."""
MIXER_DEPTHS: dict[ScaleName, int] = {"demo": 1, "cpu": 1, "gpu-hour": 2, "paper": 4}
LOSS = "held-out loss"


def masking_study(scale: ScaleName) -> Study:
    """Masking x mixer at equal images."""
    size, patch_size = SHAPES[scale]
    mixer, none = (
        {
            "denoiser": dit(size, patch_size=patch_size, cross_attention=True, mixer_depth=depth),
        }
        for depth in (MIXER_DEPTHS[scale], 0)
    )
    return Study(
        name=f"masking-{scale}",
        title="Training on a quarter of the tokens",
        question=(
            "How much does hiding three quarters of the tokens for three quarters of the training "
            "cost, and does a mixer that reads all of them first make up for it?"
        ),
        base=dit_base(scale),
        axes={
            "tokens": Axis(
                levels={
                    "all": none | {"train.masking": NO_MASKING},
                    "all-mixer": mixer | {"train.masking": NO_MASKING},
                    "masked": none | {"train.masking": MASKED},
                    "masked-mixer": mixer | {"train.masking": MASKED},
                },
                description="all tokens, or a random quarter of them for the first three quarters "
                "of the images; with or without a patch mixer in front",
            )
        },
        seeds=SEEDS[scale],
        primary=LOSS,
        companions=("KID-efflite0", "parameters"),
        smallest_effect=SMALLEST_LOSS,
        contrasts=_contrasts(),
        prediction=(
            "Masking raises the held-out loss at equal images, the mixer takes some of that back, "
            "and does not take all of it: with one block it is a fifth of the model."
        ),
    )


def _contrasts() -> tuple[Contrast, ...]:
    claims = {
        ("all", "masked"): ("Naive masking raises the held-out loss.", "positive"),
        ("masked", "masked-mixer"): (
            "Under masking, a mixer lowers the held-out loss.",
            "negative",
        ),
        ("all-mixer", "masked-mixer"): (
            "Deferred masking raises the held-out loss.",
            "positive",
        ),
    }
    return tuple(
        difference(
            first,
            second,
            LOSS,
            name=f"{second} less {first}",
            claim=claim,
            smallest_effect=SMALLEST_LOSS,
            predicted=predicted,
        )
        for (first, second), (claim, predicted) in claims.items()
    )

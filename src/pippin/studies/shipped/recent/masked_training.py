# SPDX-License-Identifier: Apache-2.0
"""Deferred masking of tokens (Sehwag et al. 2024, arXiv 2407.15811): is the patch mixer worth its
block, and what do three quarters fewer tokens cost at equal images?"""

from pippin.denoisers.dit.config import dit
from pippin.studies.contrasts import Contrast, difference, minus
from pippin.studies.shipped.recent.base import KID, LOSS, SHAPES, SMALLEST_LOSS, dit_base
from pippin.studies.shipped.scales import SEEDS, ScaleName
from pippin.studies.study import Axis, Study
from pippin.training.masking.config import NO_MASKING, MaskingConfig

MASKED = MaskingConfig(ratio=0.75, unmasked_share=0.25)
"""The published share of hidden tokens, and a longer end without masking than the published
tenth: these runs are short."""
MIXER_DEPTHS: dict[ScaleName, int] = {"demo": 1, "cpu": 1, "gpu-hour": 2, "paper": 4}


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
        companions=(KID, "parameters"),
        smallest_effect=SMALLEST_LOSS,
        contrasts=_contrasts(),
        prediction=(
            "Masking raises the held-out loss at equal images, the mixer takes some of that back, "
            "and does not take all of it."
        ),
    )


def _contrasts() -> tuple[Contrast, ...]:
    """What masking costs without and with a mixer, and the difference of the two, in which the
    mixer's additional blocks cancel."""
    naive = _cost("all", "masked", claim="Naive masking raises the held-out loss.")
    deferred = _cost(
        "all-mixer", "masked-mixer", claim="Deferred masking raises the held-out loss."
    )
    saved = minus(
        deferred,
        naive,
        name="cost of masking with a mixer less that without",
        claim="Masking costs less with a patch mixer than without.",
        smallest_effect=SMALLEST_LOSS,
        predicted="negative",
    )
    return naive, deferred, saved


def _cost(all_tokens: str, masked: str, *, claim: str) -> Contrast:
    return difference(
        all_tokens,
        masked,
        LOSS,
        name=f"{masked} less {all_tokens}",
        claim=claim,
        smallest_effect=SMALLEST_LOSS,
        predicted="positive",
    )

# SPDX-License-Identifier: Apache-2.0
"""Latents of an autoencoder or pixels, each with the velocity or the image predicted.

JiT (Li & He 2025, arXiv 2511.13720) finds that a transformer whose patches hold more numbers than
its width can predict clean pixels, which lie near a manifold of few dimensions, but no velocity,
which does not. In latents, whose patches hold fewer numbers than the width, either should do. All
arms have as many tokens; the times are those published for pixels and for latents.
"""

from typing import Any

from pippin.denoisers.dit.config import dit
from pippin.denoisers.jit.config import X_PREDICTION
from pippin.encoders.config import PIXELS
from pippin.recipes.recipe import Recipe, factor_and_channels
from pippin.studies.contrasts import Contrast
from pippin.studies.shipped.recent.base import FLOW, KID, SHAPES, Claims, differences, dit_base
from pippin.studies.shipped.scales import SEEDS, SMALLEST_KID, ScaleName
from pippin.studies.study import Axis, Study

PREDICTIONS = {"velocity": FLOW, "image": X_PREDICTION}


def latents_study(scale: ScaleName) -> Study:
    """Space x prediction at equal tokens and images, by samples."""
    base = dit_base(scale)
    return Study(
        name=f"latents-{scale}",
        title="Latents or pixels, and what is predicted there",
        question="Does a transformer need an autoencoder, if it predicts the image itself?",
        base=base,
        axes={
            "space": Axis(
                levels=_spaces(base, scale),
                description="latents of the autoencoder, or pixels, in patches that are larger by "
                "its factor; each with the density of times published for it",
            ),
            "prediction": Axis(
                levels={
                    name: {
                        "diffusion.prediction": objective.prediction,
                        "diffusion.loss_weight": objective.loss_weight,
                    }
                    for name, objective in PREDICTIONS.items()
                },
                description="the velocity, or the image; the loss is the error of the velocity",
            ),
        },
        seeds=SEEDS[scale],
        primary=KID,
        companions=("coverage", "precision"),
        smallest_effect=SMALLEST_KID,
        contrasts=_contrasts(),
        prediction=(
            "In pixels the velocity fails, because a patch holds six times as many numbers as the "
            "smallest denoiser is wide, and the image does not. In latents the two are level, and "
            "ahead of pixels: training is short."
        ),
    )


def _spaces(base: Recipe, scale: ScaleName) -> dict[str, dict[str, Any]]:
    """Level of the space -> settings."""
    size, patch_size = SHAPES[scale]
    factor, _ = factor_and_channels(base)
    return {
        "latents": {
            "autoencoder.source": base.autoencoder.source,
            "denoiser": dit(size, patch_size=patch_size, cross_attention=True),
            "diffusion.time_density": FLOW.time_density,
            "cache.enabled": True,
            "cache.dtype": base.cache.dtype,
        },
        "pixels": {
            "autoencoder.source": PIXELS,
            "denoiser": dit(size, patch_size=patch_size * factor, cross_attention=True),
            "diffusion.time_density": X_PREDICTION.time_density,
            "cache.enabled": scale != "paper",  # pixels of ImageNet would fill a terabyte
            "cache.dtype": "float16",  # exact for pixels
        },
    }


def _contrasts() -> tuple[Contrast, ...]:
    claims: Claims = {
        ("pixels-velocity", "pixels-image"): (
            "In pixels, predicting the image is better than predicting the velocity.",
            "negative",
        ),
        ("latents-velocity", "latents-image"): (
            "In latents, predicting the image is as good as predicting the velocity.",
            "none",
        ),
        ("pixels-image", "latents-velocity"): (
            "Latents are better than pixels at equal tokens and images.",
            "negative",
        ),
    }
    return tuple(differences(KID, claims, primary=claims.keys()))

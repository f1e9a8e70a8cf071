# SPDX-License-Identifier: Apache-2.0
"""REPA and iREPA against no alignment (Yu et al. 2024, arXiv 2410.06940; Singh et al. 2025, arXiv
2512.10794).

Below scale ``paper`` the frozen encoder is the network whose features KID is measured in, which
favours the aligned arms. The primary claims are therefore about the held-out loss.
"""

from typing import Any

from pippin.studies.contrasts import Contrast
from pippin.studies.shipped.recent.base import (
    KID,
    LOSS,
    SMALLEST_LOSS,
    Claims,
    differences,
    dit_base,
)
from pippin.studies.shipped.scales import SEEDS, ScaleName
from pippin.studies.study import Axis, Study
from pippin.training.repa.config import NO_REPA, RepaConfig


def repa_study(scale: ScaleName) -> Study:
    """Alignment of one block with frozen features, by a deep or a convolutional projector."""
    return Study(
        name=f"repa-{scale}",
        title="Alignment with frozen features",
        question="Does aligning a block with features of a frozen encoder make a better model?",
        base=dit_base(scale),
        axes={
            "alignment": Axis(
                levels={arm: {"train.repa": config} for arm, config in _alignments(scale).items()},
                description="none; a projector of three layers (REPA); a convolution, and "
                "features without most of their mean over the image (iREPA)",
            )
        },
        seeds=SEEDS[scale],
        primary=LOSS,
        companions=(KID, "coverage"),
        smallest_effect=SMALLEST_LOSS,
        contrasts=_contrasts(),
        prediction=(
            "No difference of the held-out loss that matters, because the model is small and sees "
            "its images often. KID falls, as published, where it is measured in the features of "
            "the alignment."
        ),
    )


def _alignments(scale: ScaleName) -> dict[str, RepaConfig]:
    """Arm -> configuration: the published encoder and block at ``paper``; elsewhere the encoder
    that is installed, and a block at a third or a half of the depth. The published width of the
    projector would take five times the FLOPs of the smallest denoiser; there it is twice the
    denoiser's."""
    if scale == "paper":
        settings: dict[str, Any] = {"encoder": "dinov2", "source": "facebook/dinov2-base"}
    else:
        settings = {"encoder": "efflite0", "block": 4 if scale == "gpu-hour" else 2}
    repa = RepaConfig(**settings, hidden_width=2048 if scale in ("gpu-hour", "paper") else 256)
    irepa = RepaConfig(**settings, projector="conv", spatial_norm=0.6)
    return {"none": NO_REPA, "repa": repa, "irepa": irepa}


def _contrasts() -> tuple[Contrast, ...]:
    """REPA against none by loss and by samples; iREPA against none and against REPA."""
    losses: Claims = {
        ("none", "repa"): ("REPA leaves the held-out loss as it is.", "none"),
        ("none", "irepa"): ("iREPA leaves the held-out loss as it is.", "none"),
    }
    samples: Claims = {
        ("none", "repa"): ("REPA lowers KID, in the features of evaluation.", "negative"),
        ("repa", "irepa"): ("iREPA lowers KID more than REPA does.", "negative"),
    }
    return (
        *differences(LOSS, losses, primary=losses.keys()),
        *differences(KID, samples, primary=()),
    )

# SPDX-License-Identifier: Apache-2.0
"""Blocks published since DiT, with everything but the denoiser equal.

DiT's block; the same with rotary positions, or with a gated MLP; LightningDiT's (Yao et al. 2025,
arXiv 2501.01423), which has both, RMS norms and normalised queries and keys; DDT (Wang et al.
2025, arXiv 2504.05741); JiT (Li & He 2025, arXiv 2511.13720) on latents.
"""

from typing import Any

from pippin.denoisers.config import DenoiserConfig
from pippin.denoisers.ddt.config import ddt
from pippin.denoisers.dit.config import dit
from pippin.denoisers.jit.config import jit
from pippin.studies.contrasts import Contrast
from pippin.studies.shipped.recent.base import (
    KID,
    LOSS,
    SHAPES,
    SMALLEST_LOSS,
    Claims,
    differences,
    dit_base,
)
from pippin.studies.shipped.scales import SEEDS, ScaleName
from pippin.studies.study import Axis, Study

LAYERS: dict[str, dict[str, Any]] = {
    "dit": {},
    "dit-rotary": {"rotary": True},
    "dit-swiglu": {"mlp": "swiglu"},
    "lightningdit": {"rotary": True, "mlp": "swiglu", "norm": "rms", "qk_norm": True},
}
"""Arm of DiT -> settings of its blocks."""


def blocks_study(scale: ScaleName) -> Study:
    """Blocks of one depth and width under one objective, by held-out loss."""
    return Study(
        name=f"blocks-{scale}",
        title="Blocks published since DiT",
        question="Which block takes one budget of training furthest, everything else equal?",
        base=dit_base(scale),
        axes={
            "block": Axis(
                levels={arm: {"denoiser": one} for arm, one in denoisers(scale).items()},
                description="layers of the blocks; all denoisers have one depth and width, and "
                "differ in parameters and FLOPs",
            )
        },
        seeds=SEEDS[scale],
        primary=LOSS,
        companions=(KID, "coverage", "parameters"),
        smallest_effect=SMALLEST_LOSS,
        contrasts=_contrasts(),
        prediction=(
            "LightningDiT's block and JiT reach a lower held-out loss than DiT's, mostly by the "
            "gated MLP: rotary positions matter little for few tokens. DDT's is as low as DiT's: "
            "at the smallest size its decoder is a single block."
        ),
    )


def denoisers(scale: ScaleName) -> dict[str, DenoiserConfig]:
    """Arm -> denoiser; class tokens enter by cross-attention or, in JiT, in context."""
    size, patch_size = SHAPES[scale]
    return {
        arm: dit(size, patch_size=patch_size, cross_attention=True, **settings)
        for arm, settings in LAYERS.items()
    } | {
        "ddt": ddt(size, patch_size=patch_size, cross_attention=True),
        "jit": jit(size, patch_size=patch_size, context=True),
    }


def _contrasts() -> tuple[Contrast, ...]:
    """Each arm against DiT, by held-out loss and by samples."""
    losses: Claims = {
        ("dit", "lightningdit"): (
            "LightningDiT's block has a lower held-out loss than DiT's.",
            "negative",
        ),
        ("dit", "ddt"): ("DDT's held-out loss is as low as DiT's, and no lower.", "none"),
        ("dit", "jit"): ("JiT has a lower held-out loss than DiT.", "negative"),
        ("dit", "dit-swiglu"): ("A gated MLP lowers DiT's held-out loss.", "negative"),
        ("dit", "dit-rotary"): ("Rotary positions leave DiT's held-out loss as it is.", "none"),
    }
    samples: Claims = {
        ("dit", "lightningdit"): (
            "LightningDiT's block has better samples than DiT's.",
            "negative",
        ),
        ("dit", "ddt"): ("DDT's samples are as good as DiT's, and no better.", "none"),
        ("dit", "jit"): ("JiT has better samples than DiT.", "negative"),
    }
    return (
        *differences(LOSS, losses, primary=samples.keys()),
        *differences(KID, samples, primary=()),
    )

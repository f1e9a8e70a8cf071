# SPDX-License-Identifier: Apache-2.0
"""Comparison of padding of captions: native, zero, mask, replicate, noisy replicate."""

from pippin.studies.shipped.scales import SEEDS, ScaleName, text_base, without_drift
from pippin.studies.study import Axis, Study

NOISES = (0.02, 0.1, 0.5)
"""Noise of replicated tokens: the default, and larger values."""


def padding_study(scale: ScaleName) -> Study:
    """All padding rules at one token budget; equal seeds have equal captions, noise and order."""
    rules = {rule: (rule, 0.02) for rule in ("native", "zero", "mask", "replicate")}
    rules |= {f"noisy-{beta:g}": ("noisy_replicate", beta) for beta in NOISES}
    return Study(
        name=f"padding-{scale}",
        title="Padding of captions",
        question=(
            "Does filling the places that a short caption leaves with noisy copies of its tokens "
            "give a better model than the encoder's own padding?"
        ),
        base=without_drift(text_base(scale), scale),
        axes={
            "padding": Axis(
                levels={
                    name: {
                        "conditioning.semantic.padding": rule,
                        "conditioning.semantic.padding_noise": beta,
                    }
                    for name, (rule, beta) in rules.items()
                },
                description="what stands in the places that a caption leaves, and the noise of "
                "copies in units of each channel's standard deviation over the caption",
            )
        },
        seeds=SEEDS[scale],
        primary="held-out loss",
        companions=("KID-efflite0", "caption R@10"),
        smallest_effect=0.002,
    )

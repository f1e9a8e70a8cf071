# SPDX-License-Identifier: Apache-2.0
"""Guidance on the same trained models: semantic x control scale, interval, increasing scale."""

from dataclasses import replace

from pippin.sampling.config import GuidanceConfig
from pippin.studies.scales import SEEDS, SMALLEST_KID, ScaleName, correlated_base
from pippin.study.study import Axis, Study

LAMBDAS = (1.0, 1.5, 2.0, 3.0, 5.0)
BETAS = (1.0, 1.5, 2.0)
INTERVAL = (-3.0, 3.0)
"""Interval of log-SNR with guidance, for one arm."""


def guidance_study(scale: ScaleName) -> Study:
    """Scales of guidance. Arms differ in sampling only, so each seed is trained once."""
    base = correlated_base(scale, 1.0)
    arms = {
        f"lambda-{lam:g}-beta-{beta:g}": GuidanceConfig(semantic_scale=lam, control_scale=beta)
        for beta in BETAS
        for lam in LAMBDAS
    }
    two = GuidanceConfig(semantic_scale=2.0)
    arms["lambda-2-interval"] = replace(two, log_snr_interval=INTERVAL)
    arms["lambda-2-growing"] = replace(two, semantic_power=4.0)
    arms["lambda-2-keeps-control"] = replace(two, reference="control")
    evaluation = replace(base.evaluation, parts=("quality", "real"))
    return Study(
        name=f"guidance-{scale}",
        title="Guidance with two scales",
        question="Which scales of semantics and of control give the best samples?",
        base=replace(base, evaluation=evaluation),
        axes={
            "guidance": Axis(
                levels={name: {"sampling.guidance": config} for name, config in arms.items()},
                description="lambda of semantics, beta of control; an interval in log-SNR, MDT's "
                "growing scale, and a reference that keeps control",
            )
        },
        seeds=SEEDS[scale],
        primary="KID-efflite0",
        companions=("coverage", "precision", "recall"),
        smallest_effect=SMALLEST_KID,
    )

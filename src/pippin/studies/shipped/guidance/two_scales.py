# SPDX-License-Identifier: Apache-2.0
"""Guidance on the same trained models, and a test of its scaling law.

The law is lambda' = 1 + s (lambda - 1) (Berrada et al. 2024).
"""

from dataclasses import replace

from pippin.conditioning.config import ConstantGate
from pippin.sampling.config import GuidanceConfig
from pippin.studies.contrasts import Contrast, difference
from pippin.studies.shipped.scales import (
    SEEDS,
    SMALLEST_KID,
    ScaleName,
    correlated_base,
    without_drift,
)
from pippin.studies.shipped.transfer import (
    BUDGETS,
    high_resolution_recipe,
    low_resolution_start,
    with_budget,
    with_recommended_transfer,
)
from pippin.studies.study import Axis, Study

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


APART_SEEDS = (90, 91, 92, 93, 94, 95)
"""Fresh seeds of :func:`guidance_apart_study`."""
SMALLEST_CONTROL_EFFECT = 0.15
"""Smallest difference of a control's effect that matters, as a share of real pairs' effect."""


def guided_arms(scale: float) -> dict[str, GuidanceConfig]:
    """Arm -> guidance with one scale apart and for both; the last is classifier-free guidance with
    an unconditional reference."""
    return {
        "off": GuidanceConfig(),
        "semantic": GuidanceConfig(semantic_scale=scale, reference="control"),
        "control": GuidanceConfig(control_scale=scale),
        "both-by-one-scale": GuidanceConfig(semantic_scale=scale),
    }


def guidance_axis(arms: dict[str, GuidanceConfig]) -> Axis:
    """The axis of :func:`guided_arms`."""
    return Axis(
        levels={arm: {"sampling.guidance": config} for arm, config in arms.items()},
        description="scale of semantics with control kept, scale of control, one for both",
    )


def effect_contrasts(arms: dict[str, GuidanceConfig]) -> dict[str, Contrast]:
    """Guided arm -> effect of the original size less that without guidance; no claim yet."""
    return {
        arm: difference(
            "off",
            arm,
            "effect original_size",
            name=f"{arm}, effect of the original size",
            claim="",
            scale="share of real",
            smallest_effect=SMALLEST_CONTROL_EFFECT,
        )
        for arm in arms
        if arm != "off"
    }


APART_ARMS = guided_arms(2.0)
"""Arms of :func:`guidance_apart_study`."""


def guidance_apart_study(scale: ScaleName) -> Study:
    """Independence of the two scales, for models that respond to their control.

    ``shapes-guidance`` asked the same of models that hardly respond to the original size (effect
    0.00, real pairs 1.93), so it could not tell what control guidance does. Here size is heard at
    every time and decided by the class: eight kept models of this kind, the arm
    ``attention-alone`` of ``semantic-path``, have an effect of 2.02. Doubling the control scale
    raised it in each of them, by half of the real effect on average, under semantic guidance with
    a null reference. Neither these seeds nor these arms were drawn before. Arms differ in sampling
    only, so each seed is trained once.
    """
    base = without_drift(correlated_base(scale, 1.0), scale)
    control = replace(base.conditioning.control, low_gate=ConstantGate())
    base = replace(
        base,
        conditioning=replace(base.conditioning, control=control),
        train=replace(base.train, lr_at="middle"),
        evaluation=replace(
            base.evaluation,
            parts=("held-out", "quality", "drift", "real"),
            drift_pairs=128,
            seed_from_training=True,
        ),
    )
    return Study(
        name=f"guidance-apart-{scale}",
        title="Semantic and control guidance apart",
        question=(
            "Does the control scale strengthen the effect of the original size, and does the "
            "semantic scale leave it as it is, where models respond to the size?"
        ),
        base=base,
        axes={"guidance": guidance_axis(APART_ARMS)},
        seeds=APART_SEEDS[:1] if scale == "demo" else APART_SEEDS,
        primary="effect original_size",
        companions=("excess drift original_size", "KID-efflite0", "held-out loss"),
        smallest_effect=SMALLEST_CONTROL_EFFECT,
        contrasts=_apart_contrasts(),
        prediction=(
            "Control guidance adds about half of the real effect. Semantic guidance with control "
            "kept changes the effect by less than 0.15 of it. One scale for both adds more than "
            "that, because its reference drops the control too."
        ),
    )


def _apart_contrasts() -> tuple[Contrast, ...]:
    """Differences to no guidance: two primary ones and the exploratory rest."""
    effect = effect_contrasts(APART_ARMS)
    return (
        replace(
            effect["control"],
            claim="Control guidance strengthens the effect of a control.",
            predicted="positive",
        ),
        replace(
            effect["semantic"],
            claim="Semantic guidance with control kept leaves the control's effect as it is.",
            predicted="none",
        ),
        replace(
            effect["both-by-one-scale"],
            claim="One scale for both strengthens the control too.",
            predicted="positive",
            role="secondary",
        ),
        *(
            difference(
                "off",
                arm,
                "KID-efflite0",
                name=f"{arm}, KID",
                claim=f"Guidance of the arm {arm} changes the quality of samples.",
                role="secondary",
            )
            for arm in effect
        ),
    )


LAW_LAMBDAS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
"""Scales tried at both resolutions. A grid that follows the formula would bias the fit towards it:
where KID hardly depends on the scale, the fitted scale lies in the middle of the grid."""
SMALLEST_EFFECT = 0.5
"""Smallest difference of lambda - 1, per 64 pixels of side, that matters."""


def guidance_law_study(scale: ScaleName) -> Study:
    """One low-resolution pre-training, continued at low and at high resolution.

    Under the formula, (lambda* - 1) / side is the same in both arms: a difference within the
    smallest effect supports it, a larger one contradicts it. If lambda* itself were the same, the
    low resolution would have twice the value.
    """
    budget = BUDGETS[scale]
    base = with_recommended_transfer(high_resolution_recipe(scale), scale)
    base = replace(base, train=with_budget(base, budget.high).train)
    samples = 256 if scale in ("demo", "cpu") else 5000
    evaluation = replace(
        base.evaluation,
        parts=("real",),
        num_samples=samples,
        scales=LAW_LAMBDAS,
        scale_samples=samples,
    )
    side = base.data.resolution
    return Study(
        name=f"guidance-law-{scale}",
        title="The best guidance scale at half and at the full side",
        question="Is (lambda* - 1) / side the same at both resolutions?",
        base=replace(base, evaluation=evaluation, init=replace(base.init, run="@low")),
        axes={
            "side": Axis(
                levels={
                    "half": {"data.resolution": side // 2, "diffusion.rescale": 1.0},
                    "full": {"data.resolution": side, "diffusion.rescale": 2.0},
                },
                description="of the pictures; the noise follows it",
            )
        },
        starts={"low": low_resolution_start(scale, budget.low)},
        seeds=SEEDS[scale],
        primary="fitted guidance per 64 px",
        companions=("fitted semantic scale",),
        smallest_effect=SMALLEST_EFFECT,
    )

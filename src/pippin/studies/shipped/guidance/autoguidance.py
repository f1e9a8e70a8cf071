# SPDX-License-Identifier: Apache-2.0
"""Four ways of guidance at equal network evaluations per image, each at its best scale.

Classifier-free guidance everywhere, inside an interval of noise levels (Kynkäänniemi et al. 2024,
arXiv 2404.07724), with the guided prediction rescaled (Lin et al. 2023, arXiv 2305.08891), and
autoguidance by an earlier checkpoint of the same run (Karras et al. 2024, arXiv 2406.02507). Arms
differ in sampling only, so each seed is trained once.
"""

from dataclasses import replace

from pippin.recipes.recipe import Recipe
from pippin.sampling.config import GuidanceConfig
from pippin.studies.contrasts import Contrast, difference
from pippin.studies.shipped.scales import (
    SEEDS,
    SMALLEST_KID,
    ScaleName,
    class_base,
)
from pippin.studies.study import Axis, Study

GUIDANCE_SCALES = (1.0, 1.5, 2.0, 3.0, 4.0)
"""Scales that every arm is searched over."""
INTERVAL = (-3.5, 3.0)
"""Guided interval in log-SNR. That of the paper, sigma from 0.28 to 2.9 for data of standard
deviation 0.5, is -3.5 to 1.2 here."""
RESCALE = 0.7
"""phi of the paper."""
GUIDE_SHARE = 4
"""The guide has seen the training images divided by this."""
STEPS: dict[ScaleName, tuple[int, int]] = {
    "demo": (16, 19),
    "cpu": (16, 19),
    "gpu-hour": (16, 19),
    "paper": (50, 56),
}
"""Steps of the solver, and of the arm that guides in the interval only: both take 32 evaluations
(dpm++, rectified flow), or 100 (DDIM, schedule sd)."""
SAMPLES: dict[ScaleName, tuple[int, int]] = {
    "demo": (256, 256),
    "cpu": (512, 256),
    "gpu-hour": (5000, 2000),
    "paper": (10_000, 2000),
}
"""Samples that are reported, and those of the search at each scale."""
METRIC = "KID-efflite0 at best scale"


def autoguidance_study(scale: ScaleName) -> Study:
    """Ways of guidance, each at the best scale of its own."""
    base = _base(scale)
    return Study(
        name=f"autoguidance-{scale}",
        title="Guidance by dropped conditions and by a weaker model",
        question=(
            "Which guidance gives the best samples at equal evaluations per image: "
            "classifier-free everywhere, in an interval or rescaled, or by an earlier checkpoint?"
        ),
        base=base,
        axes={"guidance": _axis(scale, base.train.keep_every)},
        seeds=SEEDS[scale],
        primary=METRIC,
        companions=(
            "KID-efflite0 at scale 1",
            "coverage at best scale",
            "precision at best scale",
            "sampling MACs",
        ),
        smallest_effect=SMALLEST_KID,
        contrasts=_contrasts(),
        prediction=(
            "Guidance inside the interval is better than everywhere, as in the study guidance. A "
            "checkpoint at a quarter of a short training is so much worse than the model that "
            "autoguidance gains more than the null condition does. Rescaling makes no difference "
            "that matters, because the best scales are small."
        ),
    )


def _base(scale: ScaleName) -> Recipe:
    """The class-conditional base with a kept checkpoint for the guide."""
    base = class_base(scale)
    batches = -(-base.train.images // (GUIDE_SHARE * base.train.batch_size))
    quarter = batches * base.train.batch_size  # checkpoints are named by whole batches
    samples, searched = SAMPLES[scale]
    return replace(
        base,
        train=replace(base.train, lr_at="middle", checkpoint_every=quarter, keep_every=quarter),
        evaluation=replace(
            base.evaluation,
            parts=("quality", "real"),
            num_samples=samples,
            scales=GUIDANCE_SCALES,
            scale_samples=searched,
        ),
    )


def _axis(scale: ScaleName, checkpoint: int) -> Axis:
    """The arms; their scale is where the search starts from."""
    steps, steps_in_interval = STEPS[scale]
    everywhere = GuidanceConfig(semantic_scale=2.0)
    levels = {
        "cfg": (everywhere, steps, None),
        "cfg-interval": (
            replace(everywhere, log_snr_interval=INTERVAL),
            steps_in_interval,
            None,
        ),
        "cfg-rescale": (replace(everywhere, rescale=RESCALE), steps, None),
        "autoguidance": (GuidanceConfig(guide_scale=2.0), steps, checkpoint),
    }
    return Axis(
        levels={
            arm: {
                "sampling.guidance": guidance,
                "sampling.steps": count,
                "sampling.guide_checkpoint": guide,
            }
            for arm, (guidance, count, guide) in levels.items()
        },
        description="classifier-free guidance everywhere, in an interval of log-SNR and rescaled; "
        "autoguidance by the checkpoint at a quarter of the training",
    )


def _contrasts() -> tuple[Contrast, ...]:
    """Each arm against classifier-free guidance everywhere."""
    claims = {
        "autoguidance": "Autoguidance by an earlier checkpoint is better than classifier-free "
        "guidance.",
        "cfg-interval": "Guidance inside an interval is better than everywhere.",
        "cfg-rescale": "Rescaling leaves classifier-free guidance as good as it is.",
    }
    predicted = {"autoguidance": "negative", "cfg-interval": "negative", "cfg-rescale": "none"}
    return tuple(
        difference(
            "cfg",
            arm,
            METRIC,
            name=f"{arm}, KID",
            claim=claim,
            smallest_effect=SMALLEST_KID,
            predicted=predicted[arm],
        )
        for arm, claim in claims.items()
    )

# SPDX-License-Identifier: Apache-2.0
"""The effect of the control gate on quality and on drift, which earlier studies could not decide.

Both studies follow the paper's protocol (schedule ``sd``, noise prediction, uniform times), under
which the power-cosine gate opens earlier than under rectified flow. Original size and class have
a correlation of 0.7: the size is neither a function of the class, nor independent of it.
"""

from dataclasses import replace

from pippin.conditioning.config import ConstantGate, Gate, PowerCosineGate
from pippin.diffusion.config import DiffusionConfig
from pippin.recipes.recipe import Recipe
from pippin.studies.control_axes import CONTROL_ARMS, control_axes
from pippin.studies.scales import ScaleName, correlated_base
from pippin.study.contrasts import Contrast, linear, main_effect
from pippin.study.study import Axis, Study

CORRELATION = 0.7
SEEDS = (30, 31, 32, 33, 34, 35, 36, 37)
REQUESTS = (24, 48, 96, 256)
"""Requested original sizes of samples, in pixels, for images of 64 pixels."""
SMALLEST_FD = 40.0
ALPHAS = (0.5, 1.0, 2.0, 4.0)
SMALLEST_DRIFT = 0.03
"""Smallest difference of matched drift that matters, over all gates."""
LONG: dict[ScaleName, int] = {"demo": 10_000, "cpu": 320_000, "gpu-hour": 2_000_000}
"""Training images after which the size has half of its real effect under every gate."""


def gate_quality_study(scale: ScaleName) -> Study:
    """Semantic path x gate, and a model that does not read the size, each at its best request.

    FD falls where samples are blurred, and a gated model ignores requests for a large size. At a
    single requested size the gate therefore seems to improve quality.
    """
    base = _base(scale, 40_000 if scale == "cpu" else LONG[scale])
    evaluation = replace(
        base.evaluation,
        parts=("held-out", "quality", "real"),
        num_samples=5000 if scale == "gpu-hour" else 1000,
        requests=REQUESTS,
        scales=(1.0, 2.0),
        scale_samples=256,
        seed_from_training=True,
    )
    sizes = {"read": ("original_size",), "not-read": ()}
    arms = {name: levels | {"size": "read"} for name, levels in CONTROL_ARMS.items()}
    axes = control_axes() | {
        "size": Axis(
            levels={name: {"conditioning.control.low": low} for name, low in sizes.items()},
            description="whether the original size is read at all",
        )
    }
    effects = {
        axis: main_effect(
            arms, axis, low, high, "FD-efflite0 at best request", name=axis, claim=""
        )
        for axis, low, high in (
            ("gate", "constant", "scheduled"),
            ("path", "modulation", "attention"),
        )
    }
    no_size = {"no-size": {"path": "attention", "gate": "constant", "size": "not-read"}}
    return Study(
        name=f"gate-quality-{scale}",
        title="The control gate and quality, each arm at its best request",
        question="Does the gate improve samples where every arm asks for the size that suits it?",
        base=replace(base, evaluation=evaluation),
        axes=axes,
        combinations=arms | no_size,
        seeds=SEEDS[:1] if scale == "demo" else SEEDS,
        primary="FD-efflite0 at best request",
        companions=("KID-efflite0 at best request", "sharpness at best request", "held-out loss"),
        smallest_effect=SMALLEST_FD,
        contrasts=(
            replace(
                effects["gate"],
                claim="The gate improves quality.",
                smallest_effect=SMALLEST_FD,
                predicted="negative",
            ),
            replace(
                effects["path"],
                claim="Semantics by attention improve quality.",
                smallest_effect=SMALLEST_FD,
                predicted="negative",
            ),
        ),
        prediction="No difference that matters: what the gate seemed to gain was blur.",
    )


def gate_drift_study(scale: ScaleName) -> Study:
    """Drift at equal effect along alpha, trained until the size has an effect under every gate."""
    gates: dict[str, Gate] = {"constant": ConstantGate()}
    gates |= {f"alpha-{alpha:g}": PowerCosineGate(alpha=alpha) for alpha in ALPHAS}
    base = _base(scale, LONG[scale])
    evaluation = replace(
        base.evaluation,
        parts=("held-out", "drift", "control-profile", "real"),
        control_scales=(0.5, 1.0, 2.0, 4.0),
        seed_from_training=True,
    )
    return Study(
        name=f"gate-drift-{scale}",
        title="The control gate and drift at equal effect",
        question="Does a gate that opens later lower the drift that another size causes?",
        base=replace(base, evaluation=evaluation),
        axes={
            "gate": Axis(
                levels={
                    name: {"conditioning.control.low_gate": gate} for name, gate in gates.items()
                },
                description="gamma(t) of the original size",
            )
        },
        seeds=SEEDS[:1] if scale == "demo" else SEEDS[:6],
        primary="matched drift original_size",
        companions=("effect original_size", "held-out loss"),
        smallest_effect=SMALLEST_DRIFT,
        contrasts=(_trend(tuple(gates)),),
        prediction=(
            "Drift at equal effect does not fall with alpha. Where the size is decided, near "
            "log-SNR -2, a later gate leaves less of it, and more guidance has to make up for it."
        ),
    )


def _trend(arms: tuple[str, ...]) -> Contrast:
    """The slope of matched drift along alpha; a constant gate is alpha 0."""
    return linear(
        arms,
        "matched drift original_size",
        (0.0, *ALPHAS),
        name="slope along alpha",
        claim="A gate that opens later lowers drift at equal effect.",
        smallest_effect=SMALLEST_DRIFT / ALPHAS[-1],
        predicted="negative",
    )


def _base(scale: ScaleName, images: int) -> Recipe:
    """Class-conditional mmDiT under the paper's protocol."""
    base = correlated_base(scale, CORRELATION)
    precision = base.train.precision if scale == "demo" else "bf16"
    return replace(
        base,
        diffusion=DiffusionConfig(),
        train=replace(base.train, images=images, precision=precision, lr_at="middle"),
        sampling=replace(base.sampling, precision=precision),
    )

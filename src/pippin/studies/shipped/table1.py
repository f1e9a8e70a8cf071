# SPDX-License-Identifier: Apache-2.0
"""Table 1 of Berrada et al. 2024: five denoisers, with the conditioning of their own papers and
with disentangled conditioning, on ImageNet and on CC12M, at 256 pixels and then at 512 pixels.

One builder makes four studies, one for each data set and resolution: ``table1``, ``table1-512``,
``table1-text``, ``table1-text-512``. A study ranks numbers of one protocol only. Captions have
another encoder and other images than classes, and samples of 512 pixels have other reference
images than those of 256 pixels, so a single study could not rank them against each other. The
start of an arm at 512 has exactly the recipe of the arm at 256, so that runs of one study can
serve as starts of the other.

At scales ``cpu`` and ``gpu-hour`` the same comparison uses the embedded images, at 32 pixels and
then at 64 pixels, under the common protocol's schedule and prediction. The optimizer there is that
of the small recipes, because Adam alone learns little within these budgets.
"""

from dataclasses import replace

from pippin.conditioning.config import ConditioningConfig, ConstantGate, Mechanism, TextSemantic
from pippin.diffusion.config import DiffusionConfig
from pippin.recipes.paper import MODELS
from pippin.recipes.recipe import Recipe
from pippin.studies.shipped.architectures import DENOISERS, class_recipe, text_recipe
from pippin.studies.shipped.scales import (
    SEEDS,
    SMALLEST_KID,
    ScaleName,
    class_base,
    paper_recipe,
    text_base,
    without_drift,
)
from pippin.studies.shipped.transfer import LOW_GRID, at_half_resolution, with_budget
from pippin.studies.study import Study
from pippin.training.config import InitConfig, RuleName

CONDITIONINGS = ("plain", "disentangled")
AXES = {
    "architecture": (
        ("denoiser",),
        "the denoiser, of its own paper's size XL where it has one",
    ),
    "conditioning": (
        ("conditioning.semantic", "conditioning.rules", "conditioning.control.low_gate"),
        "plain: semantics as in the model's own paper, control constant in time; disentangled: "
        "semantics by attention, size under a time schedule",
    ),
    "start": (("init",), "the run of the same arm at half the side"),
}
"""Axis -> its setting paths and its description."""
ONE_SEED = (0,)
"""At scale ``paper``: five seeds of ten arms would take thousands of device-hours."""


def table1_study(scale: ScaleName, *, text: bool = False, high: bool = False) -> Study:
    """Ten arms on one data set at one resolution.

    Args:
        scale: scale of data, sizes and budget.
        text: captions instead of classes.
        high: twice the resolution, each arm initialised from its own run at the low resolution.
    """
    low = {
        f"{model}-{conditioning}": _recipe(scale, model, conditioning, text=text)
        for model in DENOISERS
        for conditioning in CONDITIONINGS
    }
    arms = low
    if high:
        arms = {arm: _high(scale, arm, recipe, text=text) for arm, recipe in low.items()}
    axes = {name: paths for name, (paths, _) in AXES.items() if high or name != "start"}
    name = f"table1{'-text' * text}{'-512' * high}-{scale}"
    study = Study.from_recipes(
        arms,
        axes=axes,
        name=name,
        title=f"Five denoisers of {'text' if text else 'classes'}{_side(arms)}",
        question="How far does one budget take each denoiser, plain and disentangled?",
        starts=low if high else {},
        seeds=ONE_SEED if scale == "paper" else SEEDS[scale],
        primary="KID-efflite0",
        companions=("caption R@10" if text else "coverage", "held-out loss"),
        smallest_effect=SMALLEST_KID,
    )
    described = {
        name: replace(axis, description=AXES[name][1]) for name, axis in study.axes.items()
    }
    return replace(study, axes=described)


def _side(arms: dict[str, Recipe]) -> str:
    side = next(iter(arms.values())).data.resolution
    return f" at {side} pixels"


def _recipe(scale: ScaleName, model: str, conditioning: str, *, text: bool) -> Recipe:
    """The recipe of an arm at the low resolution."""
    disentangled = conditioning == "disentangled"
    if scale == "paper":
        return without_drift(
            paper_recipe(_name(model, 256, disentangled=disentangled, text=text)), scale
        )
    base = without_drift(text_base(scale) if text else class_base(scale), scale)
    small = text_recipe(scale, model) if text else _small_classes(scale, model, disentangled)
    conditioned = small.conditioning if disentangled else _plain(small.conditioning, model)
    recipe = replace(
        at_half_resolution(base),
        diffusion=DiffusionConfig(schedule="sd", prediction="eps"),
        conditioning=conditioned,
        denoiser=small.denoiser.with_grid(LOW_GRID[scale], LOW_GRID[scale]),
    )
    return with_budget(recipe, base.train.images)


def _small_classes(scale: ScaleName, model: str, disentangled: bool) -> Recipe:
    return class_recipe(scale, model, "disentangled" if disentangled else "entangled")


def _plain(conditioning: ConditioningConfig, model: str) -> ConditioningConfig:
    """The conditioning of the model's own paper, see :data:`pippin.recipes.paper.MODELS`; for
    mmDiT that of SD3."""
    control = replace(conditioning.control, low_gate=ConstantGate())
    semantic = conditioning.semantic
    rules: dict[str, Mechanism]
    if isinstance(semantic, TextSemantic):
        pooled = semantic.token_features if MODELS[model].pooled else None
        semantic = replace(semantic, padding="native", pooled_features=pooled)
        rules = {"text": "attention"}
        if pooled:
            rules["pooled"] = "modulation"
    else:
        rules = {"label": "both" if MODELS[model].pooled else MODELS[model].route}
    return replace(conditioning, semantic=semantic, rules=rules, control=control)


def _high(scale: ScaleName, arm: str, low: Recipe, *, text: bool) -> Recipe:
    """The arm at twice the resolution, initialised from its own run at the low resolution."""
    model, _, conditioning = arm.partition("-")
    rules: tuple[RuleName, ...] = ("positions",) if low.denoiser.learned_grid else ()
    init = InitConfig(run=f"@{arm}", transfer=rules)
    if scale == "paper":
        name = _name(model, 512, disentangled=conditioning == "disentangled", text=text)
        return replace(without_drift(paper_recipe(name), scale), init=init)
    from pippin.sampling.guidance import scale_at_resolution  # imports torch: only when needed

    guidance = low.sampling.guidance
    guidance = replace(guidance, semantic_scale=scale_at_resolution(guidance.semantic_scale, 2.0))
    recipe = replace(
        low,
        data=replace(low.data, resolution=2 * low.data.resolution),
        diffusion=replace(low.diffusion, rescale=2.0),
        denoiser=low.denoiser.with_grid(2 * LOW_GRID[scale], LOW_GRID[scale]),
        sampling=replace(low.sampling, guidance=guidance),
        init=init,
    )
    return with_budget(recipe, low.train.images // 4)


def _name(model: str, side: int, *, disentangled: bool, text: bool) -> str:
    """Name of the recipe; the plain class-conditional mmDiT is conditioned as SD3 is on text."""
    data = "cc12m-" if text else ""
    plain = "-attention-modulation" if MODELS[model].pooled and not text else ""
    return f"paper/{data}{model}-{side}{'-disentangled' if disentangled else plain}"

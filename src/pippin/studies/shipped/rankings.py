# SPDX-License-Identifier: Apache-2.0
"""Agreement of two rankings of denoisers: by class-conditional and by text-conditional training.

DiffusionBench (Leng et al. 2026, arXiv 2606.24888) reports no strong correlation between the
rankings of 21 latent diffusion models on ImageNet and on text to image. There images, metrics and
conditions change together. Here every arm trains on the same images, and only the condition
differs: a class, or a caption that states what the class states and in half of the images also the
place. Both enter by the same attention, so that each method has one denoiser for both.
"""

from collections.abc import Callable
from dataclasses import replace

from pippin.config import replace_at
from pippin.data.config import ShapesConfig
from pippin.denoisers.config import DenoiserConfig, SizeName, TransformerConfig
from pippin.denoisers.ddt.config import ddt
from pippin.denoisers.dit.config import dit
from pippin.denoisers.mdtv2.config import mdtv2
from pippin.denoisers.mmdit.config import mmdit
from pippin.denoisers.pixart.config import pixart
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import get_recipe
from pippin.studies.agreement import RankAgreement, Ranking
from pippin.studies.shipped.scales import SEEDS, ScaleName, paper_recipe, without_drift
from pippin.studies.shipped.shapes import captions_base
from pippin.studies.shipped.transfer import with_budget
from pippin.studies.study import Axis, Study

METHODS = ("dit", "lightningdit", "ddt", "pixart", "mmdit", "mdtv2")
"""DiT with cross-attention, the same with LightningDiT's layers, and four other denoisers."""
CONDITIONS = ("class", "text")
IMAGES = 20_000
"""Budget of a run at scale ``cpu``."""
WIDTH = 64
"""Width of all denoisers at scale ``cpu``, half of size tiny."""
SMALLEST_CORRELATION = 0.5
"""Smallest Spearman correlation that counts as agreement."""
_CONDITION_PATHS = ("conditioning.semantic", "conditioning.rules", "text.source", "text.captions")


def rankings_study(scale: ScaleName) -> Study:
    """Six denoisers under two conditions on the same images.

    The primary agreement is by held-out loss, measured alike under both conditions. Its spread
    over seeds was 0.002 in earlier studies of `shapes`, at means of 0.11 and 0.13; that of FD was
    a third of its mean, and class models were rarely right. So rankings by samples are secondary.
    """
    text, of_class = _bases(scale)
    combinations = {
        f"{method}-{condition}": {"method": method, "condition": condition}
        for condition in CONDITIONS
        for method in METHODS
    }
    return Study(
        name=f"rankings-{scale}",
        title="Rankings of denoisers by class and by text",
        question="Are the same denoisers best under class-conditional and text-conditional "
        "training?",
        base=of_class,
        axes={
            "method": Axis(
                levels={method: {"denoiser": _denoiser(method, scale)} for method in METHODS},
                description="the denoiser, which reads the condition's tokens by attention; sizes "
                "of one name differ in parameters and FLOPs",
            ),
            "condition": Axis(
                levels={"class": _condition(of_class), "text": _condition(text)},
                description="the class of an image or a caption of it, as tokens",
            ),
        },
        combinations=combinations,
        seeds=SEEDS[scale],
        primary="held-out loss",
        companions=("FD-efflite0", "caption R@10" if scale == "paper" else "accuracy all"),
        agreements=_agreements(scale),
        prediction=(
            "The rankings agree by held-out loss, since most of the loss does not depend on the "
            "condition. By samples, five seeds decide nothing."
        ),
    )


def _bases(scale: ScaleName) -> tuple[Recipe, Recipe]:
    """Recipes of text and of classes on the same images, with equal settings otherwise."""
    if scale == "paper":
        # One folder with both a class and a caption of each image.
        of_class = without_drift(paper_recipe("paper/dit-256-disentangled"), scale)
        of_class = replace_at(of_class, "data.dataset", "")
        of_class = replace(of_class, denoiser=_denoiser("dit", scale))
        return _with_condition(of_class, get_recipe("paper/cc12m-dit-256-disentangled")), of_class
    base = captions_base(scale)
    assert isinstance(base.data, ShapesConfig)
    text = replace(
        base,
        data=replace(base.data, objects=1, label="shape-colour"),
        text=replace(base.text, captions={"short": 1.0, "medium": 1.0}),
        denoiser=_denoiser("dit", scale),
        evaluation=replace(base.evaluation, scene_captions=("short", "medium")),
    )
    if scale == "cpu":
        evaluation = replace(text.evaluation, num_samples=256, scene_samples=256)
        # Not slower than bf16 at this width.
        text = replace(
            text,
            train=replace(text.train, precision="fp32"),
            sampling=replace(text.sampling, precision="fp32"),
            evaluation=evaluation,
        )
        text = with_budget(text, IMAGES)
    return text, _with_condition(text, get_recipe("shapes/dit-disentangled"))


def _with_condition(recipe: Recipe, condition: Recipe) -> Recipe:
    """The recipe with the semantics of another one."""
    semantic, rules = condition.conditioning.semantic, condition.conditioning.rules
    text = replace(recipe.text, source=condition.text.source, captions=condition.text.captions)
    conditioning = replace(recipe.conditioning, semantic=semantic, rules=rules)
    return replace(recipe, conditioning=conditioning, text=text)


def _condition(recipe: Recipe) -> dict[str, object]:
    """The settings of a condition."""
    values = (
        *(recipe.conditioning.semantic, recipe.conditioning.rules),
        *(recipe.text.source, recipe.text.captions),
    )
    return dict(zip(_CONDITION_PATHS, values, strict=True))


def _agreements(scale: ScaleName) -> tuple[RankAgreement, ...]:
    """By held-out loss; by quality of samples; and by the two kinds of metric that are in use."""
    right = "caption R@10" if scale == "paper" else "accuracy all"
    return (
        _agreement(
            "held-out loss",
            "held-out loss",
            "held-out loss",
            "Denoisers with a lower held-out loss by class have a lower one by text.",
            primary=True,
        ),
        _agreement(
            "quality of samples",
            "FD-efflite0",
            "FD-efflite0",
            "Denoisers with better samples by class have better samples by text.",
        ),
        _agreement(
            "class by quality, text by correctness",
            "FD-efflite0",
            right,
            "Denoisers with better samples by class follow captions better.",
        ),
    )


def _agreement(
    name: str, of_class: str, of_text: str, claim: str, *, primary: bool = False
) -> RankAgreement:
    first, second = (
        Ranking(
            name=condition,
            metric=metric,
            arms=tuple(f"{method}-{condition}" for method in METHODS),
        )
        for condition, metric in zip(CONDITIONS, (of_class, of_text), strict=True)
    )
    return RankAgreement(
        name=name,
        claim=claim,
        methods=METHODS,
        first=first,
        second=second,
        smallest_effect=SMALLEST_CORRELATION,
        role="primary" if primary else "secondary",
    )


def _denoiser(method: str, scale: ScaleName) -> DenoiserConfig:
    """A method's denoiser of the size of a scale, with normalised queries and keys."""
    size, side = _SIZES[scale]
    denoisers: dict[str, Callable[[], TransformerConfig]] = {
        "dit": lambda: dit(size, qk_norm=True, cross_attention=True),
        "lightningdit": lambda: dit(
            size, qk_norm=True, cross_attention=True, norm="rms", mlp="swiglu", rotary=True
        ),
        "ddt": lambda: ddt(size, cross_attention=True),
        "pixart": lambda: pixart(size, qk_norm=True),
        "mmdit": lambda: mmdit(size),
        "mdtv2": lambda: mdtv2(size, (side, side), qk_norm=True, cross_attention=True),
    }
    denoiser = denoisers[method]()
    return replace(denoiser, width=WIDTH) if scale == "cpu" else denoiser


_SIZES: dict[ScaleName, tuple[SizeName, int]] = {
    "cpu": ("tiny", 4),
    "gpu-hour": ("B", 8),
    "paper": ("XL", 16),
}
"""Size of the denoisers, and patches along a side of the latents."""

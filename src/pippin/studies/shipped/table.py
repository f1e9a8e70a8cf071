# SPDX-License-Identifier: Apache-2.0
"""All shipped studies by name."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from pippin.config import ConfigError
from pippin.data.config import ImagesConfig, OpenMojiConfig
from pippin.plugins import find_registered
from pippin.recipes import openmoji
from pippin.studies.shipped.architectures import architectures_study, text_architectures_study
from pippin.studies.shipped.control import (
    control_fields_study,
    control_gates_study,
    control_init_study,
    control_study,
    sampling_control_study,
    semantic_path_study,
)
from pippin.studies.shipped.demo import demo_study, quick_demo_study
from pippin.studies.shipped.gates import gate_drift_study, gate_quality_study, late_control_study
from pippin.studies.shipped.guidance.autoguidance import autoguidance_study
from pippin.studies.shipped.guidance.two_scales import (
    guidance_apart_study,
    guidance_law_study,
    guidance_study,
)
from pippin.studies.shipped.learning_rate import learning_rate_study
from pippin.studies.shipped.padding import padding_study
from pippin.studies.shipped.rankings import rankings_study
from pippin.studies.shipped.recent.block_layers import blocks_study
from pippin.studies.shipped.recent.few_steps import few_steps_study
from pippin.studies.shipped.recent.latents import latents_study
from pippin.studies.shipped.recent.masked_training import masking_study
from pippin.studies.shipped.recent.objectives import objectives_study
from pippin.studies.shipped.recent.repa import repa_study
from pippin.studies.shipped.scales import SCALES, ScaleName
from pippin.studies.shipped.shapes import (
    shapes_guidance_study,
    shapes_padding_short_study,
    shapes_padding_study,
)
from pippin.studies.shipped.table1 import table1_study
from pippin.studies.shipped.transfer import (
    OTHER_DATA,
    class_to_text_study,
    cropping_study,
    datasets_study,
    pretraining_length_study,
    resolution_study,
)
from pippin.studies.shipped.transfer_claims import positions_study, scarce_study
from pippin.studies.study import Study


class ShippedStudy(NamedTuple):
    """A shipped study: its builder, description and scales."""

    build: Callable[[ScaleName], Study]
    description: str
    scales: tuple[ScaleName, ...] = SCALES
    """Available scales; the first is the default."""


EMBEDDED_SCALES: tuple[ScaleName, ...] = ("demo", "cpu", "gpu-hour")
"""Scales of studies that need the embedded images."""

RANKING_SCALES: tuple[ScaleName, ...] = ("cpu", "gpu-hour", "paper")
"""Scales of studies that rank denoisers; ``demo`` is too small for it."""

DEMO_MODELS = {
    "entangled": "pippin/openmoji-mmdit-entangled",
    "disentangled": "pippin/openmoji-mmdit-disentangled",
}

STUDIES: dict[str, ShippedStudy] = {
    "demo": ShippedStudy(
        lambda scale: demo_study(openmoji.mmdit_demo(), models=DEMO_MODELS),
        "entangled against disentangled mmDiT, from the shipped models",
        ("demo",),
    ),
    "demo-quick": ShippedStudy(
        lambda scale: quick_demo_study(openmoji.mmdit_quick_demo(), models=DEMO_MODELS),
        "the same under less than half of the budget",
        ("demo",),
    ),
    "control": ShippedStudy(
        control_study, "semantic path x control gate, where an image's class determines its size"
    ),
    "control-independent": ShippedStudy(
        partial(control_study, independent=True),
        "the same, where size and class are independent",
        EMBEDDED_SCALES,
    ),
    "semantic-path": ShippedStudy(
        semantic_path_study, "drift of semantics by attention and by modulation", EMBEDDED_SCALES
    ),
    "control-gates": ShippedStudy(control_gates_study, "schedules of the control gate, and alpha"),
    "late-control": ShippedStudy(
        late_control_study, "control gate on a late and on an early control", EMBEDDED_SCALES
    ),
    "gate-quality": ShippedStudy(
        gate_quality_study, "semantic path x gate, each arm at its best request", EMBEDDED_SCALES
    ),
    "gate-drift": ShippedStudy(
        gate_drift_study, "drift at equal effect along alpha", EMBEDDED_SCALES
    ),
    "shapes-guidance": ShippedStudy(
        shapes_guidance_study, "scales of semantics and of control apart", EMBEDDED_SCALES
    ),
    "guidance-apart": ShippedStudy(
        guidance_apart_study,
        "the same, for models that respond to their control",
        EMBEDDED_SCALES,
    ),
    "shapes-padding": ShippedStudy(
        shapes_padding_study,
        "padding of short and long captions, by accuracy of samples",
        EMBEDDED_SCALES,
    ),
    "shapes-padding-short": ShippedStudy(
        shapes_padding_short_study,
        "noisy replicate against native padding on short captions, 24 seeds",
        EMBEDDED_SCALES,
    ),
    "control-init": ShippedStudy(control_init_study, "initial weights of the control embeddings"),
    "control-fields": ShippedStudy(control_fields_study, "subsets of the control fields"),
    "sampling-control": ShippedStudy(
        sampling_control_study, "requested control values of samples"
    ),
    "guidance": ShippedStudy(
        guidance_study, "scales of semantics and control, interval, reference"
    ),
    "autoguidance": ShippedStudy(
        autoguidance_study, "dropped condition, interval, rescaling, or an earlier checkpoint"
    ),
    "padding": ShippedStudy(padding_study, "rules of padding captions, and their noise"),
    "resolution": ShippedStudy(
        resolution_study, "positions x noise after pre-training at low resolution; from scratch"
    ),
    "pretraining-length": ShippedStudy(
        pretraining_length_study, "share of the budget at low resolution"
    ),
    "cropping": ShippedStudy(cropping_study, "downscaled images or local crops at low resolution"),
    "guidance-law": ShippedStudy(guidance_law_study, "best guidance scale against resolution"),
    "positions": ShippedStudy(
        positions_study,
        "resampled or extrapolated positions after low resolution",
        EMBEDDED_SCALES,
    ),
    "datasets-scarce": ShippedStudy(
        scarce_study, "pre-training on other images, where only 300 are available", EMBEDDED_SCALES
    ),
    "datasets": ShippedStudy(datasets_study, "half of the budget on other images first"),
    "class-to-text": ShippedStudy(class_to_text_study, "half of the budget on classes first"),
    "learning-rate": ShippedStudy(
        learning_rate_study, "Adam's rate: 1e-3, 1e-4, 2e-3", ("gpu-hour", "paper")
    ),
    "architectures": ShippedStudy(architectures_study, "five denoisers under both conditionings"),
    "text-architectures": ShippedStudy(text_architectures_study, "five denoisers of text"),
    "blocks": ShippedStudy(blocks_study, "blocks published since DiT, by held-out loss"),
    "objectives": ShippedStudy(
        objectives_study, "noise, v, x0 or velocity, by samples at equal evaluations"
    ),
    "few-steps": ShippedStudy(
        few_steps_study, "MeanFlow and rectified flow, at one, two and four steps"
    ),
    "masking": ShippedStudy(
        masking_study, "training on a quarter of the tokens, with and without a patch mixer"
    ),
    "latents": ShippedStudy(
        latents_study, "latents or pixels, and the velocity or the image predicted"
    ),
    "repa": ShippedStudy(repa_study, "no alignment with frozen features, REPA, iREPA"),
    "rankings": ShippedStudy(
        rankings_study,
        "ranks of six denoisers by class-conditional and by text-conditional training",
        RANKING_SCALES,
    ),
    "table1": ShippedStudy(
        table1_study,
        "Table 1 on ImageNet at 256: five denoisers, plain and disentangled",
        RANKING_SCALES,
    ),
    "table1-512": ShippedStudy(
        partial(table1_study, high=True),
        "the same at 512, each from its run at 256",
        RANKING_SCALES,
    ),
    "table1-text": ShippedStudy(
        partial(table1_study, text=True),
        "Table 1 on CC12M at 256: the same of text",
        RANKING_SCALES,
    ),
    "table1-text-512": ShippedStudy(
        partial(table1_study, text=True, high=True), "the same of text at 512", RANKING_SCALES
    ),
}


def get_study(name: str, seeds: tuple[int, ...] = (), scale: ScaleName | None = None) -> Study:
    """The shipped study of a name at a scale.

    Args:
        name: a key of :data:`STUDIES`.
        seeds: training seeds; empty = the study's own.
        scale: None = the smallest scale of the study.

    Raises:
        ConfigError: no such study, or not at this scale; the message says what is available.
    """
    shipped = find_registered(
        STUDIES,
        name,
        f"no study {name!r}",
        "`pippin study list` lists all; type --import MODULE for the module that adds a study of "
        "your own",
    )
    scale = scale or shipped.scales[0]
    if scale not in shipped.scales:
        raise ConfigError(
            f"study {name!r} has no scale {scale!r}; it has: {', '.join(shipped.scales)}"
        )
    study = shipped.build(scale)
    repeat = f"pippin study run {name} --scale {scale}"
    if seeds:
        study = replace(study, seeds=seeds)
        repeat += f" --seeds {' '.join(map(str, seeds))}"
    if isinstance(study.base.data, ImagesConfig):
        repeat += " --data-path FOLDER"
    if any(getattr(one.data, "path", None) == OTHER_DATA for one in study.starts.values()):
        repeat += " --other-data-path FOLDER"
    return replace(study, reproduce=(_installation(study), repeat))


def _installation(study: Study) -> str:
    """The pip command of a clone of the repository, with the extras that a study needs."""
    recipes = [*study.arms().values(), *study.starts.values()]
    extras = {"text": False, "twemoji": False}
    for recipe in recipes:
        data = recipe.data
        extras["text"] |= recipe.conditioning.semantic.kind == "text"
        extras["twemoji"] |= isinstance(data, OpenMojiConfig) and "twemoji" in data.art
    needed = ",".join(name for name, required in extras.items() if required)
    return f"pip install '.[{needed}]'" if needed else "pip install ."

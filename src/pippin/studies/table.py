# SPDX-License-Identifier: Apache-2.0
"""All shipped studies by name."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from pippin.config import ConfigError
from pippin.recipes import openmoji
from pippin.studies.architectures import architectures_study, text_architectures_study
from pippin.studies.control import (
    control_study,
    fields_study,
    gates_study,
    init_study,
    sampling_control_study,
)
from pippin.studies.demo import demo_study
from pippin.studies.guidance import guidance_study
from pippin.studies.padding import padding_study
from pippin.studies.scales import SCALES, ScaleName
from pippin.studies.transfer import (
    cropping_study,
    datasets_study,
    guidance_law_study,
    length_study,
    resolution_study,
    text_datasets_study,
)
from pippin.study.study import Study


class Shipped(NamedTuple):
    """A study of the package, and what running it means."""

    build: Callable[[ScaleName], Study]
    description: str
    scales: tuple[ScaleName, ...] = SCALES
    """At which it can be run; the first is the one that it is run at unasked."""


DEMO_MODELS = {
    "entangled": "pippin/openmoji-mmdit-entangled",
    "disentangled": "pippin/openmoji-mmdit-disentangled",
}

STUDIES: dict[str, Shipped] = {
    "demo": Shipped(
        lambda scale: demo_study(openmoji.mmdit_demo(), models=DEMO_MODELS),
        "entangled against disentangled mmDiT, from the shipped models",
        ("demo",),
    ),
    "control": Shipped(
        control_study, "semantic path x control gate, where a picture's class decides its size"
    ),
    "control-independent": Shipped(
        partial(control_study, independent=True), "the same, where size and class are independent"
    ),
    "control-gates": Shipped(gates_study, "schedules of the control gate, and alpha"),
    "control-init": Shipped(init_study, "initial weights of the control embeddings"),
    "control-fields": Shipped(fields_study, "which control fields are read"),
    "sampling-control": Shipped(sampling_control_study, "what control samples ask for"),
    "guidance": Shipped(guidance_study, "scales of semantics and control, interval, reference"),
    "padding": Shipped(padding_study, "rules of padding captions, and their noise"),
    "resolution": Shipped(
        resolution_study, "positions x noise after pre-training at half the side; from scratch"
    ),
    "pretraining-length": Shipped(length_study, "which share of a budget at half the side"),
    "cropping": Shipped(cropping_study, "shrunken pictures or local views at low resolution"),
    "datasets": Shipped(datasets_study, "half of a budget on other pictures first"),
    "class-to-text": Shipped(text_datasets_study, "half of a budget on classes first"),
    "guidance-law": Shipped(guidance_law_study, "the best scale at two resolutions"),
    "architectures": Shipped(architectures_study, "five denoisers under both conditionings"),
    "text-architectures": Shipped(text_architectures_study, "five denoisers of text"),
}


def get_study(name: str, seeds: tuple[int, ...] = (), scale: ScaleName | None = None) -> Study:
    """The study of a name at a scale, on its own seeds or on the given ones.

    Args:
        name: one of :data:`STUDIES`.
        seeds: none given = the study's own.
        scale: None = the smallest that the study has.

    Raises:
        ConfigError: no such study, or not at this scale; the message lists what there is.
    """
    if name not in STUDIES:
        raise ConfigError(f"no study {name!r}; there are: {', '.join(STUDIES)}")
    shipped = STUDIES[name]
    scale = scale or shipped.scales[0]
    if scale not in shipped.scales:
        raise ConfigError(
            f"study {name!r} has no scale {scale!r}; it has: {', '.join(shipped.scales)}"
        )
    study = shipped.build(scale)
    return replace(study, seeds=seeds) if seeds else study

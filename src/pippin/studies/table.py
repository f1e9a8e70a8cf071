# SPDX-License-Identifier: Apache-2.0
"""All shipped studies by name."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from pippin.config import ConfigError, nearest
from pippin.data.config import ImagesConfig, OpenMojiConfig
from pippin.recipes import openmoji
from pippin.studies.architectures import architectures_study, text_architectures_study
from pippin.studies.control import (
    control_fields_study,
    control_gates_study,
    control_init_study,
    control_study,
    sampling_control_study,
)
from pippin.studies.demo import demo_study
from pippin.studies.gates import gate_drift_study, gate_quality_study
from pippin.studies.guidance import guidance_study
from pippin.studies.guidance_law import guidance_law_study
from pippin.studies.late_control import late_control_study
from pippin.studies.learning_rate import learning_rate_study
from pippin.studies.padding import padding_study
from pippin.studies.scales import SCALES, ScaleName
from pippin.studies.semantic_path import semantic_path_study
from pippin.studies.shapes import shapes_guidance_study, shapes_padding_study
from pippin.studies.table1 import table1_study
from pippin.studies.transfer import (
    OTHER_DATA,
    class_to_text_study,
    cropping_study,
    datasets_study,
    pretraining_length_study,
    resolution_study,
)
from pippin.studies.transfer_claims import positions_study, scarce_study
from pippin.study.study import Study


class Shipped(NamedTuple):
    """A study of the package, and what running it means."""

    build: Callable[[ScaleName], Study]
    description: str
    scales: tuple[ScaleName, ...] = SCALES
    """At which it can be run; the first is the one that it is run at unasked."""


EMBEDDED: tuple[ScaleName, ...] = ("demo", "cpu", "gpu-hour")
"""Of studies that ask what only the embedded pictures can answer."""

TABLE1: tuple[ScaleName, ...] = ("cpu", "gpu-hour", "paper")
"""Of :mod:`pippin.studies.table1`; a few minutes would rank nothing."""

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
        partial(control_study, independent=True),
        "the same, where size and class are independent",
        EMBEDDED,
    ),
    "semantic-path": Shipped(
        semantic_path_study, "drift of semantics by attention and by modulation", EMBEDDED
    ),
    "control-gates": Shipped(control_gates_study, "schedules of the control gate, and alpha"),
    "late-control": Shipped(
        late_control_study, "the gate on a late and on an early control", EMBEDDED
    ),
    "gate-quality": Shipped(
        gate_quality_study, "semantic path x gate, each arm at its best request", EMBEDDED
    ),
    "gate-drift": Shipped(gate_drift_study, "drift at equal effect along alpha", EMBEDDED),
    "shapes-guidance": Shipped(
        shapes_guidance_study, "scales of semantics and of control apart", EMBEDDED
    ),
    "shapes-padding": Shipped(
        shapes_padding_study, "padding of short and long captions, read off samples", EMBEDDED
    ),
    "control-init": Shipped(control_init_study, "initial weights of the control embeddings"),
    "control-fields": Shipped(control_fields_study, "which control fields are read"),
    "sampling-control": Shipped(sampling_control_study, "what control samples ask for"),
    "guidance": Shipped(guidance_study, "scales of semantics and control, interval, reference"),
    "padding": Shipped(padding_study, "rules of padding captions, and their noise"),
    "resolution": Shipped(
        resolution_study, "positions x noise after pre-training at half the side; from scratch"
    ),
    "pretraining-length": Shipped(
        pretraining_length_study, "which share of a budget at half the side"
    ),
    "cropping": Shipped(cropping_study, "shrunken pictures or local views at low resolution"),
    "guidance-law": Shipped(guidance_law_study, "does the best scale follow the side"),
    "positions": Shipped(
        positions_study, "resampled or extrapolated, after half the side", EMBEDDED
    ),
    "datasets-scarce": Shipped(
        scarce_study, "other pictures first, where only 300 are at hand", EMBEDDED
    ),
    "datasets": Shipped(datasets_study, "half of a budget on other pictures first"),
    "class-to-text": Shipped(class_to_text_study, "half of a budget on classes first"),
    "learning-rate": Shipped(
        learning_rate_study, "Adam's rate: 1e-3, 1e-4, 2e-3", ("gpu-hour", "paper")
    ),
    "architectures": Shipped(architectures_study, "five denoisers under both conditionings"),
    "text-architectures": Shipped(text_architectures_study, "five denoisers of text"),
    "table1": Shipped(
        table1_study, "Table 1 on ImageNet at 256: five denoisers, plain and disentangled", TABLE1
    ),
    "table1-512": Shipped(
        partial(table1_study, high=True), "the same at 512, each from its run at 256", TABLE1
    ),
    "table1-text": Shipped(
        partial(table1_study, text=True), "Table 1 on CC12M at 256: the same of text", TABLE1
    ),
    "table1-text-512": Shipped(
        partial(table1_study, text=True, high=True), "the same of text at 512", TABLE1
    ),
}


def get_study(name: str, seeds: tuple[int, ...] = (), scale: ScaleName | None = None) -> Study:
    """The study of a name at a scale, on its own seeds or on the given ones.

    Args:
        name: one of :data:`STUDIES`.
        seeds: none given = the study's own.
        scale: None = the smallest that the study has.

    Raises:
        ConfigError: no such study, or not at this scale; the message says what there is.
    """
    if name not in STUDIES:
        near = nearest(name, STUDIES)
        raise ConfigError(f"no study {name!r}{near}; `pippin study list` lists all")
    shipped = STUDIES[name]
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
    """From a clone of the repository, with the extras that a study needs."""
    recipes = [*study.arms().values(), *study.starts.values()]
    extras = {"text": False, "twemoji": False}
    for one in recipes:
        extras["text"] |= one.conditioning.semantic.kind == "text"
        extras["twemoji"] |= isinstance(one.data, OpenMojiConfig) and "twemoji" in one.data.art
    needed = ",".join(name for name, wanted in extras.items() if wanted)
    return f"pip install '.[{needed}]'" if needed else "pip install ."

# SPDX-License-Identifier: Apache-2.0
"""What whoever runs a shipped study may set: where pictures are, what fits their machine, and
which features samples are measured in."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pippin.config import ConfigError, replace_at
from pippin.data.config import ImagesConfig
from pippin.recipes.recipe import Recipe
from pippin.studies.transfer import OTHER_DATA
from pippin.study.study import Study

OWN_FEATURES = "efflite0"
"""What shipped studies measure in, and end the names of their metrics with."""


@dataclass(frozen=True, kw_only=True)
class TrainMachine:
    """Settings of ``train``, as of `pippin train`."""

    micro_batch_size: int | None = None
    """Images computed at once; gradients are accumulated over the batch."""
    gradient_checkpointing: int | None = None
    """n: every n-th block computes its activations again; 1 = all blocks, 0 = none."""
    compile: bool | None = None
    """torch.compile each block."""
    device: str | None = None
    """auto, cpu, cuda, cuda:1, ..."""
    workers: int | None = None
    """Processes that load data."""
    validate_every: int | None = None
    """Images between held-out losses; 0 = none."""
    preview_every: int | None = None
    """Images between preview grids; 0 = none."""
    checkpoint_every: int | None = None
    """Images between checkpoints."""
    checkpoint_overlap: bool | None = None
    """Write checkpoints while the next steps are computed."""
    keep_checkpoints: int | None = None
    """How many of the newest stay on disk."""


@dataclass(frozen=True, kw_only=True)
class CacheMachine:
    """Settings of ``cache``."""

    folder: str | None = None
    """Where latents are kept."""


@dataclass(frozen=True, kw_only=True)
class SamplingMachine:
    """Settings of ``sampling``."""

    batch_size: int | None = None
    """Images drawn at once."""


@dataclass(frozen=True, kw_only=True)
class EvaluationMachine:
    """Settings of ``evaluation``."""

    batch_size: int | None = None
    """Images measured at once."""
    clip: str | None = None
    """Folder or hub name of a CLIP, for the CLIP score of a study of text."""
    lpips: str | None = None
    """torchvision's weights of AlexNet or VGG16, for drift in LPIPS too."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Settings that change no number of a study, so that a folder begun with some goes on with
    others; None = as the study has it."""

    train: TrainMachine = field(default_factory=TrainMachine)
    cache: CacheMachine = field(default_factory=CacheMachine)
    sampling: SamplingMachine = field(default_factory=SamplingMachine)
    evaluation: EvaluationMachine = field(default_factory=EvaluationMachine)

    def given(self) -> Iterator[tuple[str, Any]]:
        """Setting path and value of each that was given."""
        for section in dataclasses.fields(Machine):
            for one in dataclasses.fields(getattr(self, section.name)):
                value = getattr(getattr(self, section.name), one.name)
                if value is not None:
                    yield f"{section.name}.{one.name}", value


@dataclass(frozen=True, kw_only=True)
class FeatureChoice:
    """Which features samples are measured in; another network is another protocol, and needs a
    folder of its own."""

    kind: Literal["efflite0", "inception", "dinov2"] = "efflite0"
    """inception: for FID too."""
    weights: str | None = None
    """Of inception: the file of its weights; of dinov2: the folder of the model."""


def on_machine(study: Study, machine: Machine) -> Study:
    """The study, and the runs that it starts from, under settings that change no number."""
    for path, value in machine.given():
        study = _everywhere(study, path, value)
    return study


def in_features(study: Study, chosen: FeatureChoice) -> Study:
    """The study measured in other features: its metrics are renamed, and where such a one
    decides, no smallest effect is declared, for that of our features is in their unit.

    Raises:
        ConfigError: features without their weights, or weights without features.
    """
    if (chosen.weights is None) != (chosen.kind == OWN_FEATURES):
        raise ConfigError(
            "--features.kind inception or dinov2 and --features.weights PATH belong together; got "
            f"{chosen.kind} and {chosen.weights}"
        )
    if chosen.kind == OWN_FEATURES:
        return study
    changes: dict[str, Any] = {"features": chosen.kind, chosen.kind: chosen.weights}

    def renamed(metric: str) -> str:
        return metric.replace(f"-{OWN_FEATURES}", f"-{chosen.kind}")

    same_unit = renamed(study.primary) == study.primary
    repeat = f" --features.kind {chosen.kind} --features.weights PATH"
    return replace(
        study,
        base=replace(study.base, evaluation=replace(study.base.evaluation, **changes)),
        primary=renamed(study.primary),
        companions=tuple(map(renamed, study.companions)),
        smallest_effect=study.smallest_effect if same_unit else None,
        reproduce=(*study.reproduce[:-1], study.reproduce[-1] + repeat),
    )


def on_data(study: Study, path: str | None, other: str | None = None) -> Study:
    """The study on the images of a folder, and its starts on those of another where they have one.

    Args:
        study: on own images, or on the embedded ones, which need no folder.
        path: the folder; None = none given.
        other: the folder of the starts that are trained on other images; None = none given.

    Raises:
        ConfigError: a folder for the embedded images, none for own ones, or an other folder that
            is missing or has no effect.
    """
    return _on_other_data(_on_own_data(study, path), other)


def _on_other_data(study: Study, other: str | None) -> Study:
    wanted = [name for name, one in study.starts.items() if _is_other(one)]
    if other is None and wanted:
        raise ConfigError(
            f"study {study.name!r} begins on other images than its arms have (starts: "
            f"{', '.join(wanted)}); give their folder too: --data-path FOLDER --other-data-path "
            "FOLDER (see docs/reference/studies.md for what each holds)"
        )
    if other is not None and not wanted:
        raise ConfigError(
            f"study {study.name!r} has one data set, so --other-data-path {other} has no effect: "
            "leave it out"
        )
    starts = {
        name: replace_at(one, "data.path", other) if name in wanted else one
        for name, one in study.starts.items()
    }
    return replace(study, starts=starts)


def _is_other(recipe: Recipe) -> bool:
    """Whether a start's images are those of the other folder, which is still to be given."""
    return getattr(recipe.data, "path", None) == OTHER_DATA


def _on_own_data(study: Study, path: str | None) -> Study:
    data = study.base.data
    if not isinstance(data, ImagesConfig):
        if path is not None:
            raise ConfigError(
                f"study {study.name!r} runs on the embedded pictures; leave --data-path {path} "
                "out, or ask the same of own pictures: with --scale paper where `pippin study "
                "list` names it, or by a Study of your own (docs/reference/studies.md)"
            )
        return study
    if not (path or data.path):
        raise ConfigError(f"study {study.name!r} needs pictures: give --data-path FOLDER")
    if path is None:
        return study
    starts = {
        name: one if _is_other(one) else replace_at(one, "data.path", path)
        for name, one in study.starts.items()
    }
    return replace(study, base=replace_at(study.base, "data.path", path), starts=starts)


def _everywhere(study: Study, path: str, value: Any) -> Study:
    """A setting of what all arms share and of the runs that they start from."""
    starts = {name: replace_at(one, path, value) for name, one in study.starts.items()}
    return replace(study, base=replace_at(study.base, path, value), starts=starts)

# SPDX-License-Identifier: Apache-2.0
"""Options of shipped studies: data folders, machine settings, and the features of metrics."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pippin.config import ConfigError, replace_at
from pippin.data.config import ImagesConfig
from pippin.evaluation.config import FeaturesName
from pippin.evaluation.metric_registry import find_metric
from pippin.recipes.recipe import Recipe
from pippin.studies.agreement import RankAgreement
from pippin.studies.contrasts import Contrast, Prediction
from pippin.studies.shipped.transfer import OTHER_DATA
from pippin.studies.study import Study
from pippin.training.config import MuonPrecision, TrackerName

DEFAULT_FEATURES = "efflite0"
"""Features of the metrics of shipped studies, and suffix of these metrics' names."""


@dataclass(frozen=True, kw_only=True)
class TrainMachine:
    """Settings of ``train``, as in `pippin train`."""

    micro_batch_size: int | None = None
    """Images computed at once; gradients are accumulated over the batch."""
    gradient_checkpointing: int | None = None
    """n: every n-th block recomputes its activations; 1 = all blocks, 0 = none."""
    compile: bool | None = None
    """torch.compile each block."""
    muon_gram: bool | None = None
    """Iterate Muon on Gram matrices, on CPUs: two thirds of the FLOPs, other rounding."""
    muon_precision: MuonPrecision | None = None
    """Precision of Muon's iteration: auto, fp32 or bf16. bf16 gives other numbers on a CPU
    that has its units, so it is for a folder from its first run on."""
    device: str | None = None
    """auto, cpu, cuda, cuda:1, ..."""
    workers: int | None = None
    """Worker processes of the data loader."""
    validate_every: int | None = None
    """Images between held-out losses; 0 = none."""
    preview_every: int | None = None
    """Images between preview grids; 0 = none."""
    checkpoint_every: int | None = None
    """Images between checkpoints."""
    checkpoint_overlap: bool | None = None
    """Write checkpoints while the next steps are computed."""
    keep_checkpoints: int | None = None
    """Number of newest checkpoints that stay on disk."""
    tracker: TrackerName | None = None
    """tensorboard, wandb, mlflow or none."""


@dataclass(frozen=True, kw_only=True)
class CacheMachine:
    """Settings of ``cache``."""

    folder: str | None = None
    """Folder of cached latents."""


@dataclass(frozen=True, kw_only=True)
class SamplingMachine:
    """Settings of ``sampling``."""

    batch_size: int | None = None
    """Images of a sampling batch."""


@dataclass(frozen=True, kw_only=True)
class EvaluationMachine:
    """Settings of ``evaluation``."""

    batch_size: int | None = None
    """Images of an evaluation batch."""
    clip: str | None = None
    """Folder or hub name of a CLIP, for the CLIP score of a study of text."""
    lpips: str | None = None
    """File of torchvision's AlexNet or VGG16 weights, to measure drift in LPIPS too."""


@dataclass(frozen=True, kw_only=True)
class MachineSettings:
    """Settings that change the numbers of a study by rounding at most, so that it can be resumed
    with other values (but for ``muon_precision``); None = the study's value."""

    train: TrainMachine = field(default_factory=TrainMachine)
    cache: CacheMachine = field(default_factory=CacheMachine)
    sampling: SamplingMachine = field(default_factory=SamplingMachine)
    evaluation: EvaluationMachine = field(default_factory=EvaluationMachine)

    def overrides(self) -> Iterator[tuple[str, Any]]:
        """Setting path and value of each setting that is not None."""
        for section in dataclasses.fields(MachineSettings):
            for setting in dataclasses.fields(getattr(self, section.name)):
                value = getattr(getattr(self, section.name), setting.name)
                if value is not None:
                    yield f"{section.name}.{setting.name}", value


@dataclass(frozen=True, kw_only=True)
class FeatureChoice:
    """The feature extractor of metrics; another network is another protocol, and needs another
    folder."""

    kind: FeaturesName = "efflite0"
    """Feature extractor; inception also gives FID."""
    weights: str | None = None
    """For inception, the file of its weights; for dinov2 and clip, the folder of the model."""


ROUNDING = (
    "train.compile",
    "train.micro_batch_size",
    "train.muon_gram",
    "train.muon_precision",
    "sampling.batch_size",
    "evaluation.batch_size",
)
"""Machine settings with which numbers are equal up to rounding only."""


def with_machine_settings(study: Study, machine: MachineSettings) -> Study:
    """The study with the machine settings in its arms and starts, and with those of
    :data:`ROUNDING` in the command that repeats it."""
    options = ""
    for path, value in machine.overrides():
        study = _replace_everywhere(study, path, value)
        if path in ROUNDING:
            options += f" --{path.replace('_', '-')} {value}"
    if not (options and study.reproduce):
        return study
    *installation, command = study.reproduce
    return replace(study, reproduce=(*installation, command + options))


def with_features(study: Study, chosen: FeatureChoice) -> Study:
    """The study measured in other features, with its metrics renamed.

    If the primary metric or a metric of a contrast is renamed, it declares no smallest effect,
    because the original one is in the unit of the original features. A contrast that predicted no
    difference of that size then predicts nothing.

    Raises:
        ConfigError: features without their weights, or weights without features.
    """
    if (chosen.weights is None) != (chosen.kind == DEFAULT_FEATURES):
        raise ConfigError(
            "--features.kind inception, dinov2 or clip and --features.weights PATH belong "
            f"together; got {chosen.kind} and {chosen.weights}"
        )
    if chosen.kind == DEFAULT_FEATURES:
        return study
    changes: dict[str, Any] = {"features": chosen.kind, chosen.kind: chosen.weights}
    renamed = partial(_in_features, features=chosen.kind)
    same_unit = renamed(study.primary) == study.primary
    repeat = f" --features.kind {chosen.kind} --features.weights PATH"
    return replace(
        study,
        base=replace(study.base, evaluation=replace(study.base.evaluation, **changes)),
        primary=renamed(study.primary),
        companions=tuple(map(renamed, study.companions)),
        smallest_effect=study.smallest_effect if same_unit else None,
        contrasts=tuple(_contrast_in_features(one, chosen.kind) for one in study.contrasts),
        agreements=tuple(_agreement_in_features(one, chosen.kind) for one in study.agreements),
        reproduce=(*study.reproduce[:-1], study.reproduce[-1] + repeat),
    )


def _in_features(name: str, features: str) -> str:
    """Name of a metric in other features, if it is one of the default features."""
    metric = find_metric(name)
    return metric.in_features(features).name if metric.features == DEFAULT_FEATURES else name


def _contrast_in_features(contrast: Contrast, features: str) -> Contrast:
    names = {metric: _in_features(metric, features) for metric in contrast.metrics}
    if all(new == old for old, new in names.items()):
        return contrast
    title = contrast.name
    for old, new in names.items():
        title = title.replace(old, new)
    terms = tuple(replace(term, metric=names[term.metric]) for term in contrast.terms)
    contrast = replace(contrast, name=title, terms=terms)
    if contrast.scale == "share of real":  # in any features the unit is a share
        return contrast
    predicted: Prediction = "open" if contrast.predicted == "none" else contrast.predicted
    return replace(contrast, smallest_effect=None, predicted=predicted)


def _agreement_in_features(agreement: RankAgreement, features: str) -> RankAgreement:
    """The agreement by renamed metrics; its smallest effect is a correlation and stays."""
    first, second = (
        replace(ranking, metric=_in_features(ranking.metric, features))
        for ranking in (agreement.first, agreement.second)
    )
    return replace(agreement, first=first, second=second)


def with_data_path(study: Study, path: str | None, other: str | None = None) -> Study:
    """The study on the images of a folder, with starts on another data set on their own folder.

    Args:
        study: on a custom data set, or on the embedded images, which need no folder.
        path: folder of the images; None = not given.
        other: folder of the starts on another data set; None = not given.

    Raises:
        ConfigError: a folder for the embedded images, no folder for a custom data set, or a
            folder for starts that is missing or has no effect.
    """
    return _with_start_data(_with_arm_data(study, path), other)


def _with_start_data(study: Study, other: str | None) -> Study:
    names = [name for name, recipe in study.starts.items() if _is_on_other_data(recipe)]
    if other is None and names:
        raise ConfigError(
            f"study {study.name!r} pre-trains on another data set than that of its arms (starts: "
            f"{', '.join(names)}); give both folders: --data-path FOLDER --other-data-path "
            "FOLDER (docs/reference/studies.md describes them)"
        )
    if other is not None and not names:
        raise ConfigError(
            f"study {study.name!r} has one data set, so --other-data-path {other} has no effect: "
            "remove it"
        )
    starts = {
        name: replace_at(recipe, "data.path", other) if name in names else recipe
        for name, recipe in study.starts.items()
    }
    return replace(study, starts=starts)


def _is_on_other_data(recipe: Recipe) -> bool:
    """True for a start on another data set, whose folder is not yet given."""
    return getattr(recipe.data, "path", None) == OTHER_DATA


def _with_arm_data(study: Study, path: str | None) -> Study:
    data = study.base.data
    if not isinstance(data, ImagesConfig):
        if path is not None:
            raise ConfigError(
                f"study {study.name!r} runs on the embedded images; remove --data-path {path}; "
                "for a custom data set use --scale paper, if `pippin study list` names it, or "
                "write your own Study (docs/reference/studies.md)"
            )
        return study
    if not (path or data.path):
        raise ConfigError(f"study {study.name!r} needs images: give --data-path FOLDER")
    if path is None:
        return study
    starts = {
        name: recipe if _is_on_other_data(recipe) else replace_at(recipe, "data.path", path)
        for name, recipe in study.starts.items()
    }
    return replace(study, base=replace_at(study.base, "data.path", path), starts=starts)


def _replace_everywhere(study: Study, path: str, value: Any) -> Study:
    """The study with a setting replaced in all arms and starts."""
    starts = {name: replace_at(recipe, path, value) for name, recipe in study.starts.items()}
    return replace(study, base=replace_at(study.base, path, value), starts=starts)

# SPDX-License-Identifier: Apache-2.0
"""Import and export of models in diffusers' format.

A folder holds config.json and diffusion_pytorch_model.safetensors; a pipeline's folder holds such
a folder in ``transformer`` or ``unet``, and ``scheduler/scheduler_config.json``, which determines
the diffusion process. Tensors without a counterpart in diffusers' classes (null captions, class
tokens) are written beside them, under pippin's names, in ``pippin_extra.safetensors``, with the
conditioning in its metadata.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pippin.conditioning.config import ConditioningConfig
from pippin.config import ConfigError
from pippin.denoisers.weights.arguments import ModelSpec
from pippin.denoisers.weights.tensor_table import shapes_of, to_source
from pippin.diffusion.config import PredictionType, ScheduleName
from pippin.interop.diffusers_config import (
    class_of,
    read_config,
    sampling_settings,
    to_scheduler,
    write_config,
)
from pippin.interop.diffusion_process import resolve_process
from pippin.interop.load_model import LoadedModel, load_model, table_entries
from pippin.interop.weight_files import read_weights
from pippin.interop.wrappers import (
    EMA_SUFFIX,
    KIND_KEY,
    average_of_config,
    averaged_sibling,
    kind_of_folder,
)
from pippin.settings.weights import UNKNOWN_WEIGHTS
from pippin.system.files import make_folder, write_json
from pippin.system.formats import (
    ENTRY_ERRORS,
    FORMATS,
    VERSION,
    FormatError,
    check_format,
    parse_json,
    read_foreign_json,
)
from pippin.system.tensors import save_tensors
from pippin.system.weight_folders import find_weights

CONFIG_FILE = "config.json"
SCHEDULER_FILE = Path("scheduler") / "scheduler_config.json"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
EXTRA_FILE, EXTRA_KEY = "pippin_extra.safetensors", "pippin"

NULL_CAPTION = ("conditioner.text_tokens.null", "conditioner.text_vector.null")
"""Null captions; diffusers' pipelines encode the empty caption instead."""


def read_folder(
    folder: Path, schedule: ScheduleName | None = None, prediction: PredictionType | None = None
) -> tuple[LoadedModel, tuple[str, ...]]:
    """Model of a folder, and notes on choices and skipped files.

    Args:
        folder: folder of a model or a pipeline.
        schedule, prediction: diffusion process given by the user, for a folder without a
            scheduler.

    Raises:
        ValueError: no such model, an unsupported one, or another process than that of the folder's
            scheduler; the message says why.
        OSError: a file cannot be read.
    """
    inner = _model_folder(folder)
    config, scheduler = read_foreign_json(inner / CONFIG_FILE), None
    for path in (parent / SCHEDULER_FILE for parent in (folder, inner.parent, inner)):
        scheduler = scheduler or (read_foreign_json(path) if path.is_file() else None)
    spec = read_config(config, scheduler)
    process = resolve_process(spec.diffusion, schedule, prediction)
    if scheduler is not None and process != spec.diffusion:
        raise ValueError(
            f"the scheduler of {folder} says schedule {spec.diffusion.schedule}, prediction "
            f"{spec.diffusion.prediction}; given are schedule {process.schedule}, "
            f"prediction {process.prediction}: leave --schedule and --prediction out"
        )
    spec = replace(spec, diffusion=process)
    files = find_weights(inner)
    weights = read_weights(files.path, class_of(spec.denoiser.kind).anchors)
    extra_tensors: dict[str, Tensor] = {}
    if (inner / EXTRA_FILE).is_file():
        spec, extra_tensors = _read_extra(inner / EXTRA_FILE, spec)
    loaded = from_diffusers(spec, weights.tensors, own=extra_tensors)
    variant = (f"variant {files.variant}: {files.path.name}",) if files.variant else ()
    is_process_given = (schedule, prediction) != (None, None)
    kind = kind_of_folder(inner, files.path, config)
    loaded = replace(loaded, weights=kind, average=average_of_config(config))
    return loaded, (
        *_weight_choice(folder, inner),
        *variant,
        *weights.notes,
        *_notes(loaded, config, scheduler, is_process_given),
    )


def _weight_choice(folder: Path, inner: Path) -> list[str]:
    """Note on which weights were read, if raw and averaged ones are in the same folder."""
    raw = inner.with_name(inner.name.removesuffix(EMA_SUFFIX))
    if inner != folder and raw != inner:
        beside = f"; for the raw weights convert {raw}" if raw.is_dir() else ""
        return [f"the averaged weights of {inner.name} were read{beside}"]
    if (other := averaged_sibling(inner)) is not None:
        return [f"raw weights were read; averaged ones are in {other}"]
    return []


def _notes(
    loaded: LoadedModel,
    config: Mapping[str, Any],
    scheduler: Mapping[str, Any] | None,
    is_process_given: bool,
) -> list[str]:
    """Notes about a folder that was read."""
    notes, diffusion = [], loaded.spec.diffusion
    if scheduler is None and not is_process_given:
        notes.append(
            f"no {SCHEDULER_FILE}: assuming the process that {loaded.source} was published with, "
            f"schedule {diffusion.schedule}, prediction {diffusion.prediction}; give another one "
            "with --schedule and --prediction"
        )
    elif scheduler is not None and (settings := sampling_settings(scheduler)):
        notes.append(f"sampling settings of the scheduler are skipped: {settings}")
    model_class = class_of(loaded.spec.denoiser.kind)
    notes += [model_class.note] if model_class.note else []
    return [*notes, *model_class.notes(config)]


def from_diffusers(
    spec: ModelSpec,
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor] | None = None,
) -> LoadedModel:
    """Pippin model with the weights of a class of diffusers.

    Args:
        spec: description read from the class's configuration.
        state: its tensors.
        own: further tensors under pippin's names, which the class lacks.

    Raises:
        ValueError: weights that do not fit.
    """
    source = class_of(spec.denoiser.kind)
    return load_model(source.name, spec, source.table, state, may_lack=NULL_CAPTION, own=own)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Model in diffusers' format."""

    class_name: str
    arguments: dict[str, Any]
    """Constructor arguments."""
    tensors: dict[str, Tensor]
    extra: dict[str, Tensor]
    """Tensors without a counterpart in the class, under pippin's names."""
    note: str
    """Difference between the class and pippin; empty = none."""

    def build(self) -> nn.Module:
        """Instance of the class of diffusers with these weights."""
        model = _class(self.class_name)(**self.arguments)
        model.load_state_dict(self.tensors)
        return model.eval()


def to_diffusers(spec: ModelSpec, state: Mapping[str, Tensor]) -> Exported:
    """Convert a pippin model to a class of diffusers.

    Args:
        spec: description of the model.
        state: its tensors.

    Raises:
        ConfigError: no class of diffusers computes the same; the setting is named.
    """
    name, arguments = write_config(spec)
    with torch.device("meta"):
        model = _class(name)(**arguments)
    source_shapes = shapes_of(model)
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    model_class = class_of(spec.denoiser.kind)
    table = table_entries(model_class.table, spec, shapes)
    tensors = to_source(table, state, source_shapes)
    if differing := sorted(set(source_shapes) ^ set(tensors)):
        raise ConfigError(
            f"diffusers' {name} and this model differ in {len(differing)} tensors, such as "
            f"{differing[0]}"
        )
    used = {entry.target for entry in table}
    extra = {key: value for key, value in state.items() if key not in used}
    if unused_tensors := sorted(key for key in extra if key.startswith("denoiser.")):
        raise ConfigError(f"diffusers' {name} has no place for {', '.join(unused_tensors)}")
    return Exported(
        class_name=name,
        arguments=arguments,
        tensors=tensors,
        extra=extra,
        note=model_class.note,
    )


def write_folder(
    folder: Path, spec: ModelSpec, state: Mapping[str, Tensor], kind: str = UNKNOWN_WEIGHTS
) -> Exported:
    """Write a pippin model in diffusers' format.

    Args:
        folder: new or empty.
        spec: description of the model.
        state: its tensors.
        kind: kind of the weights, written to their metadata; see
            :data:`pippin.settings.weights.WEIGHTS`.

    Raises:
        ConfigError: as :func:`to_diffusers`, or a process that diffusers does not have.
        OSError: disk full or not writable.
    """
    scheduler = to_scheduler(spec.diffusion)
    exported = write_denoiser(folder, to_diffusers(spec, state), spec, kind)
    make_folder((folder / SCHEDULER_FILE).parent)
    write_json(folder / SCHEDULER_FILE, scheduler)
    return exported


def write_denoiser(folder: Path, exported: Exported, spec: ModelSpec, kind: str) -> Exported:
    """Write a denoiser in diffusers' format, without its scheduler.

    Args:
        folder: created if missing.
        exported: the denoiser.
        spec, kind: as for :func:`write_folder`.

    Raises:
        OSError: disk full or not writable.
    """
    from diffusers import __version__

    make_folder(folder)
    class_settings = {"_class_name": exported.class_name, "_diffusers_version": __version__}
    metadata = {"format": "pt", KIND_KEY: kind}
    save_tensors(folder / WEIGHTS_FILE, exported.tensors, metadata=metadata)
    if exported.extra:
        facts = {
            VERSION: FORMATS["export"],
            "conditioning": spec.conditioning.to_dict(),
            "num_classes": spec.num_classes,
        }
        extra = {"format": "pt", EXTRA_KEY: json.dumps(facts)}
        save_tensors(folder / EXTRA_FILE, exported.extra, metadata=extra)
    write_json(folder / CONFIG_FILE, class_settings | exported.arguments)
    return exported


def _read_extra(path: Path, spec: ModelSpec) -> tuple[ModelSpec, dict[str, Tensor]]:
    """Pippin's conditioning, and its tensors without a counterpart in diffusers."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = parse_json((file.metadata() or {})[EXTRA_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        check_format("export", facts.get(VERSION), path)
        conditioning = ConditioningConfig.from_dict(facts["conditioning"])
        classes = int(facts["num_classes"])
    except FormatError:
        raise
    except (SafetensorError, *ENTRY_ERRORS) as error:
        raise ValueError(f"{path} is damaged or was not written by pippin: {error}") from error
    return replace(spec, conditioning=conditioning, num_classes=classes), tensors


def _class(name: str) -> Any:
    import diffusers

    return getattr(diffusers, name)


def _model_folder(folder: Path) -> Path:
    """The folder itself, or the denoiser's folder in a pipeline."""
    names = ("transformer", "unet")
    averaged = [folder / f"{name}{EMA_SUFFIX}" for name in names]  # as in checkpoint files
    candidates = (folder, *averaged, *(folder / name for name in names))
    for candidate in candidates:
        if (candidate / CONFIG_FILE).is_file():
            return candidate
    raise ValueError(
        f"{folder} holds no {CONFIG_FILE}, nor does a folder transformer or unet in it; give the "
        "folder of a diffusers model or pipeline"
    )

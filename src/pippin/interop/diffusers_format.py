# SPDX-License-Identifier: Apache-2.0
"""Models in diffusers' format, in and out.

A folder holds config.json and diffusion_pytorch_model.safetensors; a pipeline's folder holds such
a folder in ``transformer`` or ``unet``, and ``scheduler/scheduler_config.json``, which decides the
process. What our model has and diffusers' classes have no place for (null captions, class tokens)
is written beside them, under our names, in ``pippin_extra.safetensors``, with our conditioning in
its metadata.
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
from pippin.config import UNKNOWN_WEIGHTS, ConfigError
from pippin.diffusion.config import PredictionType, ScheduleName
from pippin.interop import diffusers_tables as tables
from pippin.interop.arguments import Configured
from pippin.interop.diffusers_config import CLASSES, read_config, write_config
from pippin.interop.diffusers_schedulers import left_out, to_scheduler
from pippin.interop.mapping import shapes_of, to_theirs
from pippin.interop.place import Placed, Table, lines, place
from pippin.interop.process import stated
from pippin.interop.weight_files import read_weights
from pippin.interop.weight_kind import (
    EMA_SUFFIX,
    KIND_KEY,
    average_beside,
    average_of_config,
    kind_of_folder,
)
from pippin.system.files import write_json
from pippin.system.flush import make_folder
from pippin.system.formats import FORMATS, VERSION, FormatError, check_format
from pippin.system.json_text import parse_json
from pippin.system.regular import read_regular
from pippin.system.tensors import save_tensors
from pippin.system.weight_folders import find_weights

CONFIG_FILE = "config.json"
SCHEDULER_FILE = Path("scheduler") / "scheduler_config.json"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
EXTRA_FILE, EXTRA_KEY = "pippin_extra.safetensors", "pippin"

TABLES: dict[str, Table] = {
    "dit": tables.dit_table,
    "pixart": tables.pixart_table,
    "mmdit": tables.mmdit_table,
    "unet": tables.unet_table,
}
FOUND_BY = {
    "dit": ("pos_embed.proj.weight", "proj_out_2.weight"),
    "pixart": ("pos_embed.proj.weight", "adaln_single.linear.weight"),
    "mmdit": ("pos_embed.proj.weight", "norm_out.linear.weight"),
    "unet": ("conv_in.weight", "time_embedding.linear_1.weight"),
}
"""Names of tensors by which the network is found, whatever wraps their names."""
DIT_NOTE = (
    "diffusers' DiT divides time features by 127 where the published DiT and ours divide by 128: "
    "as it stands it computes something else from the same weights; equal is, in diffusers, "
    "block.norm1.emb.time_proj.downscale_freq_shift = 0 for each block"
)
NULL_CAPTION = ("conditioner.text_tokens.null", "conditioner.text_vector.null")
"""diffusers' pipelines encode the empty caption instead."""


def read_folder(
    folder: Path, schedule: ScheduleName | None = None, prediction: PredictionType | None = None
) -> tuple[Placed, tuple[str, ...]]:
    """The model of a folder, and notes on what was chosen and left out.

    Args:
        folder: of a model or a pipeline.
        schedule, prediction: the process that the user states, for a folder without a scheduler.

    Raises:
        ValueError: no such model, one that ours cannot be, or another process than the folder's
            scheduler has; the message names why.
        OSError: a file cannot be read.
    """
    inner = _model_folder(folder)
    config, scheduler = _json(inner / CONFIG_FILE), None
    for path in (one / SCHEDULER_FILE for one in (folder, inner.parent, inner)):
        scheduler = scheduler or (_json(path) if path.is_file() else None)
    configured = read_config(config, scheduler)
    process = stated(configured.diffusion, schedule, prediction)
    if scheduler is not None and process != configured.diffusion:
        raise ValueError(
            f"the scheduler of {folder} says schedule {configured.diffusion.schedule}, prediction "
            f"{configured.diffusion.prediction}; stated are schedule {process.schedule}, "
            f"prediction {process.prediction}: leave --schedule and --prediction out"
        )
    configured = replace(configured, diffusion=process)
    files = find_weights(inner)
    weights = read_weights(files.path, FOUND_BY[configured.denoiser.kind])
    own: dict[str, Tensor] = {}
    if (inner / EXTRA_FILE).is_file():
        configured, own = _read_extra(inner / EXTRA_FILE, configured)
    placed = from_diffusers(configured, weights.tensors, own=own)
    variant = (f"variant {files.variant}: {files.path.name}",) if files.variant else ()
    is_stated = (schedule, prediction) != (None, None)
    kind = kind_of_folder(inner, files.path, config)
    placed = replace(placed, weights=kind, average=average_of_config(config))
    return placed, (
        *_choice(folder, inner),
        *variant,
        *weights.notes,
        *_notes(placed, config, scheduler, is_stated),
    )


def _choice(folder: Path, inner: Path) -> list[str]:
    """Of raw and averaged weights that lie beside one another, which were taken."""
    raw = inner.with_name(inner.name.removesuffix(EMA_SUFFIX))
    if inner != folder and raw != inner:
        beside = f"; raw ones lie beside: convert {raw} to take them" if raw.is_dir() else ""
        return [f"the averaged weights of {inner.name} were taken{beside}"]
    if (other := average_beside(inner)) is not None:
        return [f"raw weights were taken; averaged ones lie beside, in {other}"]
    return []


def _notes(
    placed: Placed,
    config: Mapping[str, Any],
    scheduler: Mapping[str, Any] | None,
    is_stated: bool,
) -> list[str]:
    """What a reader must know of a folder that was read."""
    notes, diffusion = [], placed.configured.diffusion
    if scheduler is None and not is_stated:
        notes.append(
            f"no {SCHEDULER_FILE}: the process is the one that {placed.source} was published "
            f"with, schedule {diffusion.schedule}, prediction {diffusion.prediction}; another one "
            "is stated by --schedule and --prediction"
        )
    elif scheduler is not None and (settings := left_out(scheduler)):
        notes.append(f"of the scheduler, what says how to sample is left out: {settings}")
    if placed.configured.denoiser.kind == "dit":
        notes.append(DIT_NOTE)
        if config.get("norm_eps", 1e-5) != 1e-6:
            notes.append("its norms add 1e-5 to the variance, ours 1e-6")
    return notes


def from_diffusers(
    configured: Configured,
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor] | None = None,
) -> Placed:
    """A model of ours with the weights of a class of diffusers.

    Args:
        configured: from the class's configuration.
        state: its tensors.
        own: tensors under our names, for what the class lacks.

    Raises:
        ValueError: weights that do not fit.
    """
    kind = configured.denoiser.kind
    source = next(name for name, known in CLASSES.items() if known.kind == kind)
    return place(source, configured, TABLES[kind], state, may_lack=NULL_CAPTION, own=own)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A model in diffusers' terms."""

    class_name: str
    arguments: dict[str, Any]
    """Of its constructor."""
    tensors: dict[str, Tensor]
    extra: dict[str, Tensor]
    """Ours, under our names, that the class has no place for."""

    def build(self) -> nn.Module:
        """The class of diffusers with these weights."""
        theirs = _class(self.class_name)(**self.arguments)
        theirs.load_state_dict(self.tensors)
        return theirs.eval()


def to_diffusers(configured: Configured, ours: Mapping[str, Tensor]) -> Exported:
    """A model of ours as a class of diffusers.

    Args:
        configured: what ours is.
        ours: its tensors.

    Raises:
        ConfigError: no class of diffusers computes what ours does; the setting is named.
    """
    name, arguments = write_config(configured)
    with torch.device("meta"):
        theirs = _class(name)(**arguments)
    wanted = shapes_of(theirs)
    shapes = {key: tuple(value.shape) for key, value in ours.items()}
    table = lines(TABLES[configured.denoiser.kind], configured, shapes)
    tensors = to_theirs(table, ours, wanted)
    if odd := sorted(set(wanted) ^ set(tensors)):
        raise ConfigError(
            f"diffusers' {name} and this model differ in {len(odd)} tensors, such as {odd[0]}"
        )
    placed = {entry.ours for entry in table}
    extra = {key: value for key, value in ours.items() if key not in placed}
    if lost := sorted(key for key in extra if key.startswith("denoiser.")):
        raise ConfigError(f"diffusers' {name} has no place for {', '.join(lost)}")
    return Exported(class_name=name, arguments=arguments, tensors=tensors, extra=extra)


def write_folder(
    folder: Path, configured: Configured, ours: Mapping[str, Tensor], kind: str = UNKNOWN_WEIGHTS
) -> Exported:
    """Write a model of ours in diffusers' format.

    Args:
        folder: new or empty.
        configured: what ours is.
        ours: its tensors.
        kind: of the weights, see :data:`pippin.config.WEIGHTS`; it goes into their metadata.

    Raises:
        ConfigError: as :func:`to_diffusers`, or a process that diffusers does not have.
        OSError: disk full or not writable.
    """
    scheduler = to_scheduler(configured.diffusion)
    exported = to_diffusers(configured, ours)
    from diffusers import __version__

    about = {"_class_name": exported.class_name, "_diffusers_version": __version__}
    make_folder((folder / SCHEDULER_FILE).parent)
    about_weights = {"format": "pt", KIND_KEY: kind}
    save_tensors(folder / WEIGHTS_FILE, exported.tensors, metadata=about_weights)
    if exported.extra:
        facts = {
            VERSION: FORMATS["export"],
            "conditioning": configured.conditioning.to_dict(),
            "num_classes": configured.num_classes,
        }
        extra = {"format": "pt", EXTRA_KEY: json.dumps(facts)}
        save_tensors(folder / EXTRA_FILE, exported.extra, metadata=extra)
    write_json(folder / SCHEDULER_FILE, scheduler)
    write_json(folder / CONFIG_FILE, about | exported.arguments)
    return exported


def _read_extra(path: Path, configured: Configured) -> tuple[Configured, dict[str, Tensor]]:
    """Our conditioning, and the tensors of it that diffusers has no place for."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = parse_json((file.metadata() or {})[EXTRA_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        check_format("export", facts.get(VERSION), path)
        conditioning = ConditioningConfig.from_dict(facts["conditioning"])
        classes = int(facts["num_classes"])
    except FormatError:
        raise
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged or was not written by pippin: {error}") from error
    return replace(configured, conditioning=conditioning, num_classes=classes), tensors


def _class(name: str) -> Any:
    import diffusers

    return getattr(diffusers, name)


def _model_folder(folder: Path) -> Path:
    """The folder itself, or the part of a pipeline that is the denoiser."""
    names = ("transformer", "unet")
    averaged = [folder / f"{name}{EMA_SUFFIX}" for name in names]  # as in checkpoint files
    candidates = (folder, *averaged, *(folder / name for name in names))
    for one in candidates:
        if (one / CONFIG_FILE).is_file():
            return one
    raise ValueError(
        f"{folder} holds no {CONFIG_FILE}, nor does a folder transformer or unet in it; give the "
        "folder of a diffusers model or pipeline"
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_regular(path))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object")
    return content

# SPDX-License-Identifier: Apache-2.0
"""Whole pipelines of diffusers from trained models.

A model that a pipeline of diffusers draws as pippin does becomes that pipeline. DiT becomes a
pipeline whose program ``pipeline.py`` needs diffusers alone. Any other model becomes a pipeline
whose program needs an installed pippin: a second implementation of its conditioning and denoiser
would have no tests that hold it to the same numbers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pippin.config import ConfigError
from pippin.denoisers.weights.arguments import ModelSpec
from pippin.encoders.autoencoder import Autoencoder
from pippin.interop.convert import model_spec
from pippin.interop.diffusers_config import class_of, to_scheduler
from pippin.interop.diffusers_format import SCHEDULER_FILE, Exported, to_diffusers, write_denoiser
from pippin.interop.plain_autoencoder import plain_autoencoder
from pippin.publish.cards import pipeline_card
from pippin.publish.model_folder import write_model_folder
from pippin.publish.standard import DIT_PIPELINE, STANDARDS, find_obstacles
from pippin.publish.text_parts import text_parts, write_text_parts
from pippin.runs.exports import writing_export
from pippin.runs.latents import check_latents
from pippin.runs.trained import Trained
from pippin.sampling.config import GuidanceConfig
from pippin.system.files import make_folder, sync_tree, write_json, write_text

PROGRAM = "pipeline.py"
MODEL_INDEX = "model_index.json"
MODEL_FOLDER = "model"
"""Component of pippin's own pipeline: an exported folder."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """Pipeline that was written."""

    call: str
    """Source text that loads it and draws."""
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Model whose denoiser is a class of diffusers."""

    trained: Trained
    spec: ModelSpec
    exported: Exported
    pipeline: str
    """Pipeline class of diffusers."""


def write_pipeline(
    trained: Trained, out: Path, dtype: torch.dtype = torch.float32, *, text_encoders: bool = True
) -> Written:
    """Write a folder for ``DiffusionPipeline.from_pretrained``.

    Args:
        trained: the model.
        out: new, empty, or left by an interrupted export of the same weights.
        dtype: type of the denoiser's weights on disk.
        text_encoders: copy text encoders of local folders into a pipeline that needs pippin; a
            pipeline of diffusers always holds them.

    Raises:
        ValueError: an encoder is not there or not the one of the training, or another folder.
        OSError: disk full or not writable; the same call resumes.
    """
    tensors = {name: tensor.to(dtype) for name, tensor in trained.tensors.items()}
    plan, obstacles = _plan(trained, tensors)
    facts = {
        "to": "diffusers",
        "weights": trained.weights,
        "images_seen": trained.images_seen,
        "lineage": trained.lineage,
        "sha256": trained.sha256,
        "dtype": str(dtype),
    }
    with writing_export(out, facts):
        if plan is not None:
            return _write_standard(plan, out)
        return _write_own(trained, out, dtype, obstacles, text_encoders=text_encoders)


def _plan(trained: Trained, tensors: Mapping[str, Tensor]) -> tuple[_Plan | None, list[str]]:
    """Pipeline of diffusers, or None and the reasons."""
    located = trained.located
    try:
        spec = model_spec(located, tensors)
        to_scheduler(spec.diffusion)
        exported = to_diffusers(spec, tensors)
    except ConfigError as error:
        return None, [str(error)]
    if obstacles := find_obstacles(located, spec, exported):
        return None, obstacles
    pipeline = class_of(spec.denoiser.kind).pipeline
    return _Plan(trained=trained, spec=spec, exported=exported, pipeline=pipeline), []


def _write_standard(plan: _Plan, out: Path) -> Written:
    """Write a pipeline of diffusers' classes."""
    from diffusers import __version__

    trained, kind = plan.trained, class_of(plan.spec.denoiser.kind)
    network = plain_autoencoder(trained_autoencoder(trained))
    network.save_pretrained(out / "vae")
    sync_tree(out / "vae")
    make_folder((out / SCHEDULER_FILE).parent)
    scheduler = to_scheduler(plan.spec.diffusion) | {"_diffusers_version": __version__}
    if plan.pipeline == "StableDiffusionPipeline":  # else it warns; trailing times ignore it
        scheduler["steps_offset"] = 1
    write_json(out / SCHEDULER_FILE, scheduler)
    write_denoiser(out / kind.folder, plan.exported, plan.spec, trained.weights)
    index: dict[str, Any] = {
        "_diffusers_version": __version__,
        kind.folder: ("diffusers", plan.exported.class_name),
        "scheduler": ("diffusers", scheduler["_class_name"]),
        "vae": ("diffusers", "AutoencoderKL"),
    }
    notes = list(_sampling_notes(trained))
    if plan.pipeline == DIT_PIPELINE:
        write_text(out / PROGRAM, _program("dit_pipeline"))
        index |= {"_class_name": ("pipeline", "PippinDiTPipeline")} | _dit_defaults(trained)
        call = _call({"class_labels": "[0]"}, trusted=True, out=out)
    else:
        standard = STANDARDS[plan.pipeline]
        parts = text_parts(trained.located.text)
        index |= write_text_parts(out, parts, standard.encoders)
        index |= {"_class_name": plan.pipeline} | standard.fixed
        arguments = {"prompt": '"a red apple"'} | standard.call(trained.located)
        call = _call(arguments, trusted=False, out=out)
        notes += [standard.note] if standard.note else []
    return _finish(out, index, call, notes, trained)


def _write_own(
    trained: Trained, out: Path, dtype: torch.dtype, obstacles: list[str], *, text_encoders: bool
) -> Written:
    """Write a pipeline whose program needs pippin."""
    from diffusers import __version__

    folder = out / MODEL_FOLDER
    notes = [f"no pipeline of diffusers draws this model: {reason}" for reason in obstacles]
    notes.append(f"{PROGRAM} needs an installed pippin, whose code it runs")
    notes += write_model_folder(trained, folder, dtype, text_encoders=text_encoders)
    write_text(folder / "pippin_model.py", _program("pippin_model"))
    write_text(out / PROGRAM, _program("pippin_pipeline"))
    index = {
        "_class_name": ("pipeline", "PippinPipeline"),
        "_diffusers_version": __version__,
        MODEL_FOLDER: ("pippin_model", "PippinModel"),
    }
    semantic, rules = trained.recipe.conditioning.semantic, trained.recipe.conditioning.rules
    arguments = {"class_labels": "[0]"} if semantic.kind == "label" else {"prompt": '"an apple"'}
    call = _call((arguments if rules else {}) | {"seeds": "[0]"}, trusted=True, out=out)
    return _finish(out, index, call, notes, trained)


def _finish(
    out: Path, index: Mapping[str, Any], call: str, notes: list[str], trained: Trained
) -> Written:
    """Write README.md, and then the index, without which no pipeline is found."""
    write_text(out / "README.md", pipeline_card(trained, call, notes))
    write_json(out / MODEL_INDEX, json.loads(json.dumps(index)))
    return Written(call=call, notes=tuple(notes))


def _dit_defaults(trained: Trained) -> dict[str, Any]:
    """Arguments of the pipeline of DiT."""
    sampling, inputs = trained.recipe.sampling, trained.inputs
    names = () if inputs is None else inputs.data.class_names
    return {
        "id2label": {str(number): name for number, name in enumerate(names)} or None,
        "steps": sampling.steps,
        "guidance_scale": sampling.guidance.semantic_scale,
    }


def trained_autoencoder(trained: Trained) -> Autoencoder:
    """Autoencoder that normalises latents as in the training.

    Raises:
        ValueError: it is not there, or another one.
    """
    located = trained.located.autoencoder
    own = Autoencoder.load(located)
    check_latents(trained.latents, trained.recipe.autoencoder, own)
    recorded = None if trained.inputs is None else trained.inputs.autoencoder
    if recorded not in (None, own.fingerprint):
        raise ValueError(
            f"the autoencoder {located.source} has the fingerprint {own.fingerprint}; the weights "
            f"were trained with {recorded}: give its folder with --autoencoder FOLDER"
        )
    return own if trained.latents is None else own.with_affine(trained.latents.affine)


def _sampling_notes(trained: Trained) -> list[str]:
    """Settings of sampling that a pipeline of diffusers has no place for."""
    sampling, notes = trained.recipe.sampling, []
    if sampling.solver not in ("ddim", "euler"):
        notes.append(
            f"the scheduler is first order; the recipe samples with {sampling.solver}, so images "
            "differ unless pippin samples with ddim"
        )
    plain = GuidanceConfig(semantic_scale=sampling.guidance.semantic_scale)
    if replace(sampling.guidance, reference="null") != plain:
        notes.append("of sampling.guidance, the pipeline has the constant semantic_scale only")
    return notes


def _call(arguments: Mapping[str, str], *, trusted: bool, out: Path) -> str:
    """Source text that loads a pipeline and draws an image."""
    trust = ", trust_remote_code=True" if trusted else ""
    given = ", ".join(f"{name}={value}" for name, value in arguments.items())
    return (
        "from diffusers import DiffusionPipeline\n\n"
        f'pipe = DiffusionPipeline.from_pretrained("{out.name}"{trust})\n'
        f'pipe({given}).images[0].save("image.png")\n'
    )


def _program(name: str) -> str:
    """Source text of a program in the package."""
    return files("pippin.publish.files").joinpath(f"{name}.py").read_text(encoding="utf-8")

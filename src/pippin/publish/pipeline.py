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
from pippin.encoders.config import PIXELS
from pippin.interop.convert import model_spec
from pippin.interop.diffusers_config import class_of, to_scheduler
from pippin.interop.diffusers_format import SCHEDULER_FILE, Exported, to_diffusers, write_denoiser
from pippin.interop.plain_autoencoder import autoencoder_obstacle, pipeline_network
from pippin.publish.card import CARD, CardForm, render_card
from pippin.publish.facts import CardFacts, public_name, public_notes
from pippin.publish.markdown import cell, literal
from pippin.publish.model_folder import MODEL_FOLDER, folder_facts, write_inner_model
from pippin.publish.standard import DIT_PIPELINE, STANDARDS, find_obstacles
from pippin.publish.text_parts import text_parts, write_text_parts
from pippin.runs.bundled_encoders import check_fingerprint
from pippin.runs.exports import writing_export
from pippin.runs.latents import check_latents
from pippin.runs.trained import Trained
from pippin.sampling.config import GuidanceConfig
from pippin.system.files import make_folder, sync_tree, write_json, write_text

PROGRAM = "pipeline.py"
MODEL_INDEX = "model_index.json"


@dataclass(frozen=True, kw_only=True)
class ExportedPipeline:
    """Pipeline that was written."""

    call: str
    """Source text that loads it and draws."""
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Model whose denoiser is a class of diffusers."""

    facts: CardFacts
    spec: ModelSpec
    exported: Exported
    autoencoder: Autoencoder
    """Normalises latents as in the training."""
    pipeline: str
    """Pipeline class of diffusers."""


def write_pipeline(facts: CardFacts, out: Path, *, text_encoders: bool = True) -> ExportedPipeline:
    """Write a folder for ``DiffusionPipeline.from_pretrained``.

    Args:
        facts: of the model, with the type of the denoiser's weights on disk.
        out: new, empty, or left by an interrupted export of the same weights.
        text_encoders: copy text encoders of local folders into a pipeline that needs pippin; a
            pipeline of diffusers always holds them.

    Raises:
        ValueError: an encoder is not there or not the one of the training, or another folder.
        OSError: disk full or not writable; the same call resumes.
    """
    dtype = getattr(torch, facts.dtype)
    tensors = {name: tensor.to(dtype) for name, tensor in facts.trained.tensors.items()}
    plan, obstacles = _plan(facts, tensors)
    with writing_export(out, folder_facts(facts.trained, "diffusers", facts.dtype)):
        if plan is not None:
            return _write_standard(plan, out)
        return _write_own(facts, out, obstacles, text_encoders=text_encoders)


def _plan(facts: CardFacts, tensors: Mapping[str, Tensor]) -> tuple[_Plan | None, list[str]]:
    """Pipeline of diffusers, or None and the reasons."""
    located = facts.trained.located
    if located.autoencoder.source == PIXELS:
        return None, [f"autoencoder.source {PIXELS} is the identity, and pipelines need a VAE"]
    try:
        spec = model_spec(located, tensors)
        to_scheduler(spec.diffusion)
        exported = to_diffusers(spec, tensors)
    except ConfigError as error:
        return None, [str(error)]
    if obstacles := find_obstacles(located, spec, exported):
        return None, obstacles
    pipeline = class_of(spec.denoiser.kind).pipeline
    own = trained_autoencoder(facts.trained)
    if obstacle := autoencoder_obstacle(own, any_class=pipeline == DIT_PIPELINE):
        return None, [obstacle]
    plan = _Plan(facts=facts, spec=spec, exported=exported, autoencoder=own, pipeline=pipeline)
    return plan, []


def _write_standard(plan: _Plan, out: Path) -> ExportedPipeline:
    """Write a pipeline of diffusers' classes."""
    from diffusers import __version__

    facts, kind = plan.facts, class_of(plan.spec.denoiser.kind)
    trained = facts.trained
    network = pipeline_network(plan.autoencoder)
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
        "vae": ("diffusers", type(network).__name__),
    }
    notes = _sampling_notes(trained, plan.pipeline)
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
    sources = [trained.recipe.autoencoder.source, *facts.text_encoders]
    facts = replace(facts, bundled=tuple(map(public_name, sources)))
    written = _finish(facts, out, index, call, notes)
    return replace(written, notes=(*written.notes, *public_notes(facts, None)))


def _write_own(
    facts: CardFacts, out: Path, obstacles: list[str], *, text_encoders: bool
) -> ExportedPipeline:
    """Write a pipeline whose program needs pippin."""
    from diffusers import __version__

    limits = [f"no pipeline of diffusers draws this model: {reason}" for reason in obstacles]
    limits.append(f"{PROGRAM} needs an installed pippin, whose code it runs")
    facts, notes = write_inner_model(facts, out, text_encoders=text_encoders)
    write_text(out / MODEL_FOLDER / "pippin_model.py", _program("pippin_model"))
    write_text(out / PROGRAM, _program("pippin_pipeline"))
    index = {
        "_class_name": ("pipeline", "PippinPipeline"),
        "_diffusers_version": __version__,
        MODEL_FOLDER: ("pippin_model", "PippinModel"),
    }
    condition = {"prompt": '"a red apple"'} if facts.reads_text else {}
    condition |= {"class_labels": "[0]"} if facts.reads_classes else {}
    call = _call(condition | {"seeds": "[0]"}, trusted=True, out=out)
    written = _finish(facts, out, index, call, limits)
    notes += public_notes(facts, f"{MODEL_FOLDER}/")
    return replace(written, notes=(*written.notes, *notes))


def _finish(
    facts: CardFacts, out: Path, index: Mapping[str, Any], call: str, limits: list[str]
) -> ExportedPipeline:
    """Write the model card, and then the index, without which no pipeline is found."""
    form = CardForm(
        title=out.resolve().name,
        header={"library_name": "diffusers"},
        use=("```python", *call.splitlines(), "```"),
        limits=tuple(map(cell, limits)),
    )
    write_text(out / CARD, render_card(facts, form))
    write_json(out / MODEL_INDEX, json.loads(json.dumps(index)))
    return ExportedPipeline(call=call, notes=tuple(limits))


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
    if trained.inputs is not None:
        check_fingerprint(located.source, own.fingerprint, trained.inputs.autoencoder)
    return own if trained.latents is None else own.with_affine(trained.latents.affine)


def _sampling_notes(trained: Trained, pipeline: str) -> list[str]:
    """Settings of sampling that a pipeline of diffusers has no place for."""
    sampling, notes = trained.recipe.sampling, []
    standard = STANDARDS.get(pipeline)
    rescales = standard is not None and standard.rescales
    if sampling.solver not in ("ddim", "euler"):
        notes.append(
            f"the scheduler is first order; the recipe samples with {sampling.solver}, so images "
            "differ unless pippin samples with ddim"
        )
    if sampling.time_shift != 1:
        notes.append(
            f"the scheduler visits equal steps, the recipe's sampling.time_shift is "
            f"{sampling.time_shift:g}: set the scheduler's shift to it for the same images"
        )
    guidance = sampling.guidance
    plain = GuidanceConfig(
        semantic_scale=guidance.semantic_scale, rescale=guidance.rescale * rescales
    )
    if replace(guidance, reference="null") != plain:
        known = "semantic_scale and rescale" if rescales else "semantic_scale"
        notes.append(f"of sampling.guidance, the pipeline has the constant {known} only")
    if sampling.autoguided:
        notes.append("a pipeline holds one model: it samples without sampling.guide")
    return notes


def _call(arguments: Mapping[str, str], *, trusted: bool, out: Path) -> str:
    """Source text that loads a pipeline and draws an image."""
    trust = ", trust_remote_code=True" if trusted else ""
    given = ", ".join(f"{name}={value}" for name, value in arguments.items())
    return (
        "from diffusers import DiffusionPipeline\n\n"
        f"pipe = DiffusionPipeline.from_pretrained({literal(out.resolve().name)}{trust})\n"
        f'pipe({given}).images[0].save("image.png")\n'
    )


def _program(name: str) -> str:
    """Source text of a program in the package."""
    return files("pippin.publish.files").joinpath(f"{name}.py").read_text(encoding="utf-8")

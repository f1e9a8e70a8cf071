# SPDX-License-Identifier: Apache-2.0
"""The folder that is pushed: an export, a grid of samples drawn from it, and the model card."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from pippin.images.files import image_grid, save_png
from pippin.runs.bundled_encoders import AUTOENCODER_FOLDER, TEXT_FOLDER
from pippin.runs.inputs import RunInputs
from pippin.runs.trained import Trained, export
from pippin.sampling.config import SamplingConfig
from pippin.sampling.load import LoadedRun, load_run
from pippin.sampling.sample import draw, sample_rows
from pippin.sharing.card import CARD, SAMPLES, render_card
from pippin.sharing.facts import CardFacts, Licence, measures_of, named_paths, public_name
from pippin.system.files import write_text
from pippin.system.weight_checks import check_cast
from pippin.types import Prompt


@dataclass(frozen=True, kw_only=True)
class ShareRequest:
    """Request of a push."""

    name: str
    """USER/NAME."""
    revision: str | None = None
    licence: Licence
    dtype: str = "float32"
    text_encoders: bool = True
    prompts: tuple[str, ...] = ()
    num_samples: int = 16
    """Images of the grid; 0 = none."""


def prepare_folder(
    trained: Trained, run_folder: Path, folder: Path, request: ShareRequest, console: Console
) -> list[str]:
    """Write the folder that is pushed.

    Args:
        trained: the weights.
        run_folder: folder of the run, whose measures the model card states; it may not exist.
        folder: new or empty.
        request: what the author asks.
        console: for progress.

    Returns:
        Notes for the author: what becomes public, and what others have to bring.

    Raises:
        ValueError: no prompts for a text model's grid, or weights that the dtype cannot hold.
        OSError: disk full or not writable.
    """
    dtype = getattr(torch, request.dtype)
    check_cast(trained.tensors, dtype, trained.source)
    prompts = _grid_prompts(trained, request)
    public = replace(trained, inputs=_without_paths(trained))
    notes = export(public, folder, dtype, text_encoders=request.text_encoders)
    samples, words = _draw_grid(folder, prompts, request.num_samples, console)
    facts = CardFacts(
        name=request.name,
        revision=request.revision,
        licence=request.licence,
        trained=trained,
        num_parameters=sum(tensor.numel() for tensor in trained.tensors.values()),
        dtype=request.dtype,
        measures=measures_of(trained, run_folder),
        samples=tuple(samples),
        samples_sampling=words,
        bundled=_bundled(trained, folder),
    )
    write_text(folder / CARD, render_card(facts))
    return [*notes, *_public_notes(trained, facts)]


def _without_paths(trained: Trained) -> RunInputs | None:
    """The record of the inputs without the author's paths."""
    return None if trained.inputs is None else replace(trained.inputs, places={})


def _grid_prompts(trained: Trained, request: ShareRequest) -> tuple[str, ...]:
    """Prompts of a text model's grid: given ones, or those of the training's previews.

    Raises:
        ValueError: neither, or prompts for a model that reads none.
    """
    is_text = trained.recipe.conditioning.semantic.kind == "text"
    if request.prompts and not is_text:
        raise ValueError("this model reads no text: leave --prompts out")
    prompts = request.prompts or trained.recipe.train.preview_prompts
    if is_text and request.num_samples and not prompts:
        raise ValueError(
            "the grid of samples needs prompts, and the recipe has no train.preview_prompts: type "
            '--prompts "a red apple" ..., or --samples 0 for no grid'
        )
    return prompts if is_text else ()


def _draw_grid(
    folder: Path, prompts: Sequence[str], count: int, console: Console
) -> tuple[list[dict[str, Any]], str]:
    """Draw the grid from the exported folder, as others will load it.

    Returns:
        Seed and prompt or class of each image, and the sampling in words.
    """
    if count == 0:
        return [], ""
    run = load_run(folder, console=console)
    choices: Sequence[Prompt] = prompts or range(run.num_classes)
    requested = [choices[index % len(choices)] for index in range(count)]
    config, seeds = run.recipe.sampling, range(count)
    images = draw(run, requested, seeds, config)
    save_png(image_grid(images), folder / SAMPLES)
    rows = [row.to_dict() for row in sample_rows(run, requested, seeds)]
    return rows, _sampling_words(run, config)


def _sampling_words(run: LoadedRun, config: SamplingConfig) -> str:
    scale = config.guidance.semantic_scale
    guided = f"guidance {scale:g}" if scale != 1 else "no guidance"
    return f"{run.weights} weights, {config.solver}, {config.steps} steps, {guided}"


def _bundled(trained: Trained, folder: Path) -> tuple[str, ...]:
    """Sources of the encoders that are inside the folder."""
    names = [trained.recipe.autoencoder.source] * (folder / AUTOENCODER_FOLDER).is_dir()
    if any(folder.glob(f"{TEXT_FOLDER}*")):
        names += trained.recipe.text.source
    return tuple(map(public_name, names))


def _public_notes(trained: Trained, facts: CardFacts) -> list[str]:
    """Notes on what everyone can read."""
    notes = [
        f"everyone can read a path of this machine: {place} {path}"
        for place, path in named_paths(trained).items()
    ]
    if facts.bundled:
        notes.append(
            f"the folder includes {', '.join(facts.bundled)}: check that their licences allow it; "
            "--text-encoder False leaves text encoders out"
        )
    if facts.measures:
        return notes
    return [*notes, "the model card has no measures: `pippin evaluate` records those of a run"]

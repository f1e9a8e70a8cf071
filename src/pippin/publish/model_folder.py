# SPDX-License-Identifier: Apache-2.0
"""Exported folder of pippin as others get it: without the recorded paths of this machine."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pippin.publish.facts import CardFacts, public_name
from pippin.runs.bundled_encoders import bundled_paths
from pippin.runs.exports import LAST_FILE
from pippin.runs.folder import AUTOENCODER, TEXT
from pippin.runs.trained import Trained, export

MODEL_FOLDER = "model"
"""Name of the exported folder inside a pipeline or a Space."""


def folder_facts(trained: Trained, to: str, dtype: str) -> dict[str, Any]:
    """Facts that an unfinished folder records: the same command resumes, another is refused.

    Args:
        trained: the model.
        to: kind of the folder, as in ``pippin export --to``.
        dtype: type of the weights on disk.
    """
    return {
        "to": to,
        "weights": trained.weights,
        "images_seen": trained.images_seen,
        "lineage": trained.lineage,
        "sha256": trained.sha256,
        "dtype": dtype,
    }


def write_model_folder(
    facts: CardFacts, folder: Path, *, text_encoders: bool = True
) -> tuple[CardFacts, list[str]]:
    """Write an exported folder without the absolute paths that its inputs record.

    Args:
        facts: of the model.
        folder: new, empty, or left by an interrupted export of the same weights.
        text_encoders: as for :func:`pippin.runs.trained.export`.

    Returns:
        The facts with the bundled encoders, and notes on what sampling lacks elsewhere.

    Raises:
        ValueError: the folder has other files.
        OSError: disk full or not writable; the same call resumes.
    """
    trained = facts.trained
    public = trained
    if trained.inputs is not None:  # their paths still locate encoders, and are not written
        inputs = replace(trained.inputs, places={})
        public = replace(trained, inputs=inputs, bundled_paths=trained.places)
    dtype = getattr(torch, facts.dtype)
    notes = export(public, folder, dtype, text_encoders=text_encoders)
    return replace(facts, bundled=bundled_names(trained, folder)), notes


def write_inner_model(
    facts: CardFacts, out: Path, *, text_encoders: bool = True
) -> tuple[CardFacts, list[str]]:
    """Write the exported folder inside a folder that is being written for the same weights.

    A complete one, which an interrupted call left, is written again: its files are overwritten,
    and the notes are the same as without the interruption.

    Args, returns and raises: as :func:`write_model_folder`.
    """
    (out / MODEL_FOLDER / LAST_FILE).unlink(missing_ok=True)
    return write_model_folder(facts, out / MODEL_FOLDER, text_encoders=text_encoders)


def bundled_names(trained: Trained, folder: Path) -> tuple[str, ...]:
    """Names of the encoders that are inside an exported folder."""
    recipe = trained.recipe
    sources = {AUTOENCODER: recipe.autoencoder.source}
    sources |= {f"{TEXT}.{index}": source for index, source in enumerate(recipe.text.source)}
    inside = bundled_paths(folder, recipe)
    return tuple(public_name(source) for name, source in sources.items() if name in inside)

# SPDX-License-Identifier: Apache-2.0
"""Exported folder of pippin inside a published one."""

from dataclasses import replace
from pathlib import Path

import torch

from pippin.runs.exports import LAST_FILE, NOTE
from pippin.runs.folder import INPUTS_FILE
from pippin.runs.trained import Trained, export


def write_model_folder(
    trained: Trained, folder: Path, dtype: torch.dtype, *, text_encoders: bool = True
) -> list[str]:
    """Write an exported folder without the absolute paths of this machine.

    A folder that is complete stays: the export around it was interrupted after this step.

    Args:
        trained, dtype, text_encoders: as for :func:`pippin.runs.trained.export`.
        folder: part of a folder that is being written for the same weights.

    Returns:
        notes on what sampling lacks elsewhere.
    """
    if (folder / LAST_FILE).is_file() and not (folder / NOTE).exists():
        return []
    notes = export(trained, folder, dtype, text_encoders=text_encoders)
    if trained.inputs is not None:
        replace(trained.inputs, places={}).save(folder / INPUTS_FILE)
    return notes

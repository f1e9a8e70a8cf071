# SPDX-License-Identifier: Apache-2.0
"""Averages that `pippin average` reconstructed: ``averages/ema-power-WIDTH.safetensors``.

They have the format of exported weights, and stand beside the weights of the checkpoints under
their own name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pippin.runs.exports import SHA256, damaged_error, export_metadata, read_facts
from pippin.system.files import make_folder
from pippin.system.tensors import load_tensors, save_tensors, tensors_digest


def save_average(path: Path, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a reconstructed average; an earlier one is replaced.

    Args:
        path: see :meth:`pippin.runs.folder.RunFolder.average`.
        tensors: by parameter name, fp32.
        facts: weights, images_seen and lineage.

    Raises:
        OSError: disk full or not writable; an earlier file stays.
    """
    make_folder(path.parent)
    metadata = export_metadata({**facts, SHA256: tensors_digest(tensors)})
    save_tensors(path, tensors, metadata=metadata)


def load_average(path: Path) -> tuple[dict[str, Tensor], int]:
    """Tensors of a reconstructed average, verified, and the images that it covers.

    Raises:
        ValueError: damaged, or of a newer version; the message names the file.
    """
    facts = read_facts(path)
    tensors = load_tensors(path)
    if tensors_digest(tensors) != facts[SHA256]:
        raise damaged_error(path, "the sha256 of its weights is not the recorded one")
    return tensors, int(facts["images_seen"])

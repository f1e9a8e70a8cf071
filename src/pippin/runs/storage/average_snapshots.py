# SPDX-License-Identifier: Apache-2.0
"""Snapshots of averages during training, from which others are reconstructed afterwards.

``snapshots/IMAGES_SEEN.safetensors`` holds the tensors ``AVERAGE/PARAMETER`` in fp32. Its metadata
record the number of images, the averages and the sha256 of all tensors, with the format version. A
snapshot is complete or absent, and training never removes one that it needs again.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pippin.runs.exports import FACTS, SHA256
from pippin.system.files import make_folder
from pippin.system.formats import check_versioned_json, with_checksum
from pippin.system.lines import parse_object
from pippin.system.tensors import load_tensors, save_tensors, tensors_digest

SUFFIX = ".safetensors"
KIND = "average snapshot"
"""Key in :data:`pippin.system.formats.FORMATS`."""


def snapshot_path(folder: Path, images_seen: int) -> Path:
    """File of the snapshot at a number of images."""
    return folder / f"{images_seen}{SUFFIX}"


def list_snapshots(folder: Path) -> dict[int, Path]:
    """Images seen -> file, in order."""
    files = {
        int(path.stem): path
        for path in folder.glob(f"*{SUFFIX}")
        if re.fullmatch(r"0|[1-9]\d*", path.stem)
    }
    return dict(sorted(files.items()))


def remove_later_snapshots(folder: Path, images_seen: int) -> None:
    """Remove the snapshots beyond the image count at which a run resumes: training writes them
    again, and after a change of the data they hold other weights."""
    for images, path in list_snapshots(folder).items():
        if images > images_seen:
            path.unlink()


def save_snapshot(
    folder: Path, images_seen: int, averages: Mapping[str, Mapping[str, Tensor]]
) -> Path:
    """Write a snapshot.

    Args:
        folder: the run's folder of snapshots.
        images_seen: images that the run has seen.
        averages: name of an average -> its tensors by parameter.

    Raises:
        OSError: disk full or not writable; an earlier file stays.
    """
    tensors = {
        f"{average}/{name}": tensor
        for average, weights in averages.items()
        for name, tensor in weights.items()
    }
    facts = {
        "images_seen": images_seen,
        "averages": list(averages),
        SHA256: tensors_digest(tensors),
    }
    path = snapshot_path(folder, images_seen)
    make_folder(folder)
    save_tensors(path, tensors, metadata={FACTS: json.dumps(with_checksum(KIND, facts))})
    return path


def load_snapshot(path: Path) -> dict[str, dict[str, Tensor]]:
    """Averages of a snapshot by name, each by parameter; verified.

    Raises:
        FormatError: the file is of a newer version.
        ValueError: the file is damaged; the message names it.
        OSError: the file cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = parse_object((file.metadata() or {})[FACTS])
    except (KeyError, SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or no snapshot ({error})") from error
    facts = check_versioned_json(facts, KIND, path)
    tensors = load_tensors(path)
    if tensors_digest(tensors) != facts.get(SHA256):
        raise ValueError(f"{path} is damaged: the sha256 of its weights is not the recorded one")
    averages: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        average, _, name = key.partition("/")
        averages.setdefault(average, {})[name] = tensor
    return averages

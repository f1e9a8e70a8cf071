# SPDX-License-Identifier: Apache-2.0
"""Post-hoc averages of a run: any width from the snapshots that training stored."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from pippin.runs.checkpoint import load_state, load_weights, newest_intact_checkpoint
from pippin.runs.folder import RunFolder
from pippin.runs.storage.average_snapshots import list_snapshots, load_snapshot
from pippin.runs.storage.averages import save_average
from pippin.system.formats import FormatError
from pippin.training.averaging.config import PowerProfile
from pippin.training.averaging.profiles import Profile, gamma_of, reconstruct


@dataclass(frozen=True, kw_only=True)
class StoredAverage:
    """An average in a snapshot or a checkpoint."""

    name: str
    profile: Profile
    file: Path
    """A snapshot, or the folder of a checkpoint."""

    def load(self) -> dict[str, Tensor]:
        """Tensors by parameter, verified."""
        if self.file.is_dir():
            return load_weights(self.file, self.name)
        return load_snapshot(self.file)[self.name]


@dataclass(frozen=True, kw_only=True)
class ReconstructedAverage:
    """Outcome of :func:`average_run`."""

    name: str
    """Name of the weights, such as ema-power-0.12."""
    path: Path
    """Where they were written; the checkpoint, if it holds them already."""
    images_seen: int
    sources: int
    """Number of stored averages used."""
    relative_error: float
    """Error of the profile, see :class:`pippin.training.averaging.profiles.Reconstruction`."""
    skipped: tuple[str, ...]
    """Reasons why snapshots or newer checkpoints were not used."""


def average_run(folder: Path, sigma_rel: float) -> ReconstructedAverage:
    """Reconstruct the average of a relative width at a run's newest intact checkpoint, and write
    it beside the checkpoints.

    Raises:
        ValueError: an impossible width, no intact checkpoint, or nothing stored to reconstruct
            from; the message says what to do.
        OSError: disk full or not writable.
    """
    gamma = gamma_of(sigma_rel)
    run = RunFolder(folder)
    profiles = {profile.name: profile for profile in run.recipe().train.snapshot_profiles}
    if not profiles:
        raise ValueError(
            f"{folder} was trained without snapshots, so no average can be reconstructed: train "
            "with --train.snapshot-every N, the images between two snapshots"
        )
    checkpoint, problems = newest_intact_checkpoint(run.checkpoints)
    if checkpoint is None:
        raise ValueError(f"{folder} has no intact checkpoint yet; train it to at least one first")
    state = load_state(checkpoint)
    end, name = state["images_seen"], PowerProfile(sigma_rel=sigma_rel).name
    result = ReconstructedAverage(
        name=name,
        path=checkpoint,
        images_seen=end,
        sources=1,
        relative_error=0.0,
        skipped=tuple(problems),
    )
    if f"{name}.safetensors" in state["sha256"]:
        return result
    stored = [
        StoredAverage(name=each, profile=Profile(gamma_of(p.sigma_rel), end), file=checkpoint)
        for each, p in profiles.items()
    ]
    damaged: list[str] = []
    for images, path in list_snapshots(run.snapshots).items():
        if images < end and _is_intact(path, damaged):
            stored += [
                StoredAverage(name=each, profile=Profile(gamma_of(p.sigma_rel), images), file=path)
                for each, p in profiles.items()
            ]
    solution = reconstruct([each.profile for each in stored], Profile(gamma, end))
    facts = {
        "weights": name,
        "images_seen": end,
        "lineage": list(state.get("lineage", ())),
        "average": name,
    }
    save_average(run.average(name), weighted_sum(stored, solution.weights), facts)
    return replace(
        result,
        path=run.average(name),
        sources=len(stored),
        relative_error=solution.relative_error,
        skipped=(*problems, *damaged),
    )


def weighted_sum(stored: list[StoredAverage], weights: Tensor) -> dict[str, Tensor]:
    """Sum of stored averages, in float64 and rounded to fp32 at the end."""
    total: dict[str, Tensor] = {}
    for average, weight in zip(stored, weights.tolist(), strict=True):
        for name, tensor in average.load().items():
            if name not in total:
                total[name] = torch.zeros_like(tensor, dtype=torch.float64)
            total[name].add_(tensor.double(), alpha=weight)
    return {name: tensor.float() for name, tensor in total.items()}


def _is_intact(path: Path, problems: list[str]) -> bool:
    """Whether a snapshot can be used; otherwise the reason is added."""
    try:
        load_snapshot(path)
    except FormatError:
        raise
    except (OSError, ValueError) as error:
        problems.append(str(error))
        return False
    return True

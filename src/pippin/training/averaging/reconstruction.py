# SPDX-License-Identifier: Apache-2.0
"""Post-hoc averages of a run: any width from the snapshots that training stored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from pippin.runs.checkpoint import load_weights
from pippin.runs.checkpoint_state import load_state, weight_names
from pippin.runs.folder import RunFolder
from pippin.runs.storage.average_snapshots import list_snapshots, load_snapshot
from pippin.runs.storage.averages import save_average
from pippin.runs.storage.held_checkpoint import held_checkpoint, no_checkpoint_error
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


def average_run(
    folder: Path, sigma_rel: float, checkpoint: int | None = None
) -> ReconstructedAverage:
    """Reconstruct the average of a relative width at a run's newest intact checkpoint, and write
    it beside the checkpoints.

    Args:
        folder: of the run.
        sigma_rel: the width.
        checkpoint: images seen of another checkpoint.

    Raises:
        ValueError: an impossible width, no intact checkpoint, or nothing stored to reconstruct
            from; the message says what to do.
        OSError: disk full or not writable.
    """
    _ = gamma_of(sigma_rel)  # refuses an impossible width
    run = RunFolder(folder)
    if not run.recipe().train.snapshot_profiles:
        raise ValueError(
            f"{folder} was trained without snapshots, so no average can be reconstructed: train "
            "with --train.snapshot-every N, the images between two snapshots"
        )
    with held_checkpoint(run.checkpoints, checkpoint) as (path, problems):
        if path is None:
            raise no_checkpoint_error(folder, problems)
        return _reconstruct_at(run, path, problems, PowerProfile(sigma_rel=sigma_rel))


def _reconstruct_at(
    run: RunFolder, checkpoint: Path, problems: list[str], wanted: PowerProfile
) -> ReconstructedAverage:
    """Reconstruct an average at an intact checkpoint."""
    state = load_state(checkpoint)
    end = state["images_seen"]
    result = ReconstructedAverage(
        name=wanted.name,
        path=checkpoint,
        images_seen=end,
        sources=1,
        relative_error=0.0,
        skipped=tuple(problems),
    )
    if wanted.name in weight_names(state):
        return result
    damaged: list[str] = []
    weights = reconstruct_weights(run, checkpoint, wanted, damaged)
    facts = {
        "weights": wanted.name,
        "images_seen": end,
        "lineage": list(state.get("lineage", ())),
        "average": wanted.name,
    }
    target = run.average(wanted.name)
    save_average(target, weights.tensors, facts)
    return replace(
        result,
        path=target,
        sources=weights.sources,
        relative_error=weights.relative_error,
        skipped=(*problems, *damaged),
    )


@dataclass(frozen=True, kw_only=True)
class ReconstructedWeights:
    """Weights of an average, and how they were made."""

    tensors: dict[str, Tensor]
    sources: int
    """Number of stored averages used."""
    relative_error: float
    """Error of the profile."""


def reconstruct_weights(
    run: RunFolder, checkpoint: Path, wanted: PowerProfile, damaged: list[str]
) -> ReconstructedWeights:
    """Reconstruct an average where an intact checkpoint ends; nothing is written.

    Args:
        run: the run.
        checkpoint: folder of the checkpoint.
        wanted: the average.
        damaged: gets the reasons why snapshots were not used.

    Raises:
        ValueError: an impossible width.
    """
    profiles, end = run.recipe().train.snapshot_profiles, load_state(checkpoint)["images_seen"]
    stored = _stored_averages(profiles, end, checkpoint)
    for images, path in list_snapshots(run.snapshots).items():
        if images < end and _is_intact(path, damaged):
            stored += _stored_averages(profiles, images, path)
    solution = reconstruct(
        [average.profile for average in stored], Profile(gamma_of(wanted.sigma_rel), end)
    )
    return ReconstructedWeights(
        tensors=weighted_sum(stored, solution.weights),
        sources=len(stored),
        relative_error=solution.relative_error,
    )


def _stored_averages(
    profiles: Sequence[PowerProfile], images: int, file: Path
) -> list[StoredAverage]:
    """The averages of a snapshot or checkpoint."""
    return [
        StoredAverage(
            name=profile.name, profile=Profile(gamma_of(profile.sigma_rel), images), file=file
        )
        for profile in profiles
    ]


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

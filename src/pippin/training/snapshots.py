# SPDX-License-Identifier: Apache-2.0
"""Snapshots of power-function averages at intervals of a training."""

from dataclasses import dataclass
from pathlib import Path

from pippin.distributed.sharded_tensors import gather_full_tensors
from pippin.runs.storage.average_snapshots import save_snapshot, snapshot_path
from pippin.training.config import TrainConfig
from pippin.training.monitor import Observed


@dataclass(frozen=True, kw_only=True)
class SnapshotMonitor:
    """Write the power-function averages, at the first step at or past each multiple of ``every``
    images. It draws no random number and changes no weight."""

    every: int
    """Period in images; 0 = never."""
    names: tuple[str, ...]
    """Averages to store."""
    folder: Path

    @classmethod
    def of(cls, config: TrainConfig, folder: Path) -> "SnapshotMonitor":
        """The monitor of a run."""
        names = tuple(profile.name for profile in config.snapshot_profiles)
        return cls(every=config.snapshot_every, names=names, folder=folder)

    def done(self, images: int, /) -> bool:
        """Whether the snapshot at this number of images exists."""
        return snapshot_path(self.folder, images).exists()

    def observe(self, trainer: Observed) -> None:
        """Write a snapshot on rank 0; all ranks must call it."""
        keep = trainer.world.is_rank0
        averages = {
            name: gather_full_tensors(trainer.averages[name].weights, keep=keep)
            for name in self.names
        }
        if keep:
            save_snapshot(self.folder, trainer.images_seen, averages)

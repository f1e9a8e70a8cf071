# SPDX-License-Identifier: Apache-2.0
"""Save checkpoints to which all ranks write, for states that one rank cannot gather."""

import os
import shutil
from pathlib import Path

from pippin.distributed.shard_storage import write_shards
from pippin.distributed.world import World
from pippin.runs.checkpoint import Checkpoint, complete_checkpoint, name_final_path
from pippin.runs.checkpoint_folders import make_staging, staging_folder
from pippin.runs.checkpoint_state import SHARDED, write_state
from pippin.runs.storage.retention import Retention


def save_sharded_checkpoint(
    folder: Path, checkpoint: Checkpoint, *, keep: int | Retention, world: World
) -> Path:
    """Write ``folder/IMAGES_SEEN``, a file of each part for every rank; all ranks must call it.

    Everything else is as of :func:`pippin.runs.checkpoint.save_checkpoint`: the folder is written
    under a hidden name, and rank 0 writes ``state.json`` and renames it once all ranks have
    written; other checkpoints are kept, replaced and removed by the same rules.

    Args:
        folder: the run's checkpoint folder, on a file system that all ranks see.
        checkpoint: the state; tensors are sharded, or equal on all ranks.
        keep: which checkpoints stay.
        world: the ranks.

    Raises:
        OSError: any rank could not write, on all ranks; earlier checkpoints are untouched.
    """
    final = folder / str(checkpoint.state["images_seen"])
    staging = staging_folder(final, os.getpid())

    def complete(written: Path, digests: dict[str, str]) -> None:
        write_state(written, checkpoint.state, digests, version=SHARDED)
        complete_checkpoint(written, final, keep=keep)

    tensors = {
        f"{part}/{name}": tensor
        for part, named in checkpoint.parts.items()
        for name, tensor in named.items()
    }
    try:
        write_shards(tensors, staging, world, prepare=make_staging, complete=complete)
    except BaseException as error:
        if world.is_rank0:
            shutil.rmtree(staging, ignore_errors=True)
        name_final_path(error)
        raise
    return final

# SPDX-License-Identifier: Apache-2.0
"""Storage of torch's distributed checkpoint in the files of :mod:`.shard_files`.

torch plans which rank writes what (a tensor that all ranks hold is written by one of them), shares
failures among the ranks, and reads the shards of one world size as those of another. Its own
storage keeps its plan as a pickle; here headers keep it as JSON. Objects that ranks exchange while
they plan are pickled by torch and never reach a file.
"""

import errno
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import (
    LoadPlan,
    LoadPlanner,
    ReadItem,
    SavePlan,
    SavePlanner,
    WriteItem,
)
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from pippin.distributed.shard_files import (
    ShardedTensor,
    open_shards,
    shard_file_name,
    shard_metadata,
)
from pippin.distributed.world import World
from pippin.system.files import file_digest
from pippin.system.tensors import save_tensors

Prepare = Callable[[Path], None]
"""Called on rank 0: makes the folder, before any rank writes."""
Complete = Callable[[Path, dict[str, str]], None]
"""Called on rank 0 with the folder and the sha256 of each file, once all ranks have written."""

NOT_SHARED = (
    "this rank does not see the folder that rank 0 made: put the run folder on a disk that all "
    "machines share"
)


def write_shards(
    tensors: Mapping[str, Tensor],
    folder: Path,
    world: World,
    *,
    prepare: Prepare,
    complete: Complete,
) -> None:
    """Write tensors, sharded or equal on all ranks; all ranks must call it.

    Args:
        tensors: by ``PART/NAME``.
        folder: new folder; only rank 0's argument counts.
        world: the ranks.
        prepare: makes the folder.
        complete: makes the files a checkpoint.

    Raises:
        OSError: any rank failed, on all ranks: its own error, or one that names the rank.
    """
    writer = ShardWriter(folder, world, prepare, complete)
    with _shared_failures(world, "write its shards"), _without_group_warning():
        dcp.save(
            dict(sorted(tensors.items())), storage_writer=writer, process_group=world.setup_group
        )


def read_shards(
    tensors: Mapping[str, Tensor], folder: Path, index: Mapping[str, ShardedTensor], world: World
) -> None:
    """Read into tensors, in place; each rank reads its own shards. All ranks must call it.

    Args:
        tensors: by ``PART/NAME``, of the sizes in the index.
        folder: of the files.
        index: see :func:`pippin.distributed.shard_files.read_index`.
        world: the ranks, any number of them.

    Raises:
        OSError, ValueError: any rank failed, on all ranks.
    """
    reader = ShardReader(folder, index)
    with _shared_failures(world, "read its shards"), _without_group_warning():
        dcp.load(dict(tensors), storage_reader=reader, process_group=world.setup_group)


class ShardWriter(StorageWriter):
    """Writes a rank's shards, a file for each part."""

    def __init__(self, folder: Path, world: World, prepare: Prepare, complete: Complete) -> None:
        self.folder, self.world = folder, world
        self.prepare, self.complete = prepare, complete

    def reset(self, checkpoint_id: Any = None) -> None:
        """Nothing to reset: a writer writes one checkpoint."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing to set up."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Keep the plan."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Make the folder on rank 0; the plans broadcast its path to all ranks."""
        self.prepare(self.folder)
        return [replace(plan, storage_data=str(self.folder)) for plan in plans]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> "Future[list[WriteResult]]":
        """Write this rank's items.

        Raises:
            OSError: not writable, or the folder of rank 0 is not there.
        """
        folder = Path(plan.storage_data)
        if not folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, NOT_SHARED, str(folder))
        parts: dict[str, list[WriteItem]] = {}
        for item in plan.items:
            if not _is_empty_shard(item):
                parts.setdefault(item.index.fqn.partition("/")[0], []).append(item)
        results = [self._write(folder, part, items, planner) for part, items in parts.items()]
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def _write(
        self, folder: Path, part: str, items: Sequence[WriteItem], planner: SavePlanner
    ) -> WriteResult:
        tensors, places = {}, {}
        for item in items:
            data, name, value = item.tensor_data, item.index.fqn, planner.resolve_data(item)
            assert data is not None and isinstance(value, Tensor)  # there are no other objects
            assert name not in tensors, name  # a rank has one shard of each
            tensors[name] = value
            places[name] = (tuple(data.chunk.offsets), tuple(data.size))
        file = folder / shard_file_name(part, self.world.rank, self.world.size)
        save_tensors(file, tensors, metadata=shard_metadata(places))
        return WriteResult(
            index=MetadataIndex(file.name),
            size_in_bytes=file.stat().st_size,
            storage_data=file_digest(file),
        )

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Complete the checkpoint, on rank 0."""
        written = (result for of_rank in results for result in of_rank)
        digests = {result.index.fqn: result.storage_data for result in written}
        self.complete(self.folder, dict(sorted(digests.items())))

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """Never chosen by a path."""
        return False


class ShardReader(StorageReader):
    """Reads the slices that a rank needs."""

    def __init__(self, folder: Path, index: Mapping[str, ShardedTensor]) -> None:
        self.folder, self.index = folder, index
        self._files: dict[MetadataIndex, str] = {}

    def reset(self, checkpoint_id: Any = None) -> None:
        """Nothing to reset."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Sizes and shards of all tensors."""
        return Metadata(
            state_dict_metadata={name: _chunks(tensor) for name, tensor in self.index.items()},
            storage_data={
                MetadataIndex(name, torch.Size(shard.offsets)): shard.file
                for name, tensor in self.index.items()
                for shard in tensor.shards
            },
        )

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the file of each shard."""
        self._files = metadata.storage_data

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Keep the plan."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Keep the plans."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> "Future[None]":
        """Read this rank's items, file by file."""
        by_file: dict[str, list[ReadItem]] = {}
        for item in plan.items:
            by_file.setdefault(self._files[item.storage_index], []).append(item)
        for file, items in by_file.items():
            with open_shards(self.folder / file) as opened:
                for item in items:
                    _read_item(opened, item, planner)
        future: Future[None] = Future()
        future.set_result(None)
        return future

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """Never chosen by a path."""
        return False


def _read_item(opened: Any, item: ReadItem, planner: LoadPlanner) -> None:
    name = item.storage_index.fqn
    target = planner.resolve_tensor(item).detach()
    if item.lengths:
        view = opened.get_slice(name)
        ends = (a + b for a, b in zip(item.storage_offsets, item.lengths, strict=True))
        value = view[tuple(map(slice, item.storage_offsets, ends))]
    else:  # a scalar has no slices
        value = opened.get_tensor(name)
    target.copy_(value)
    planner.commit_tensor(item, target)


def _chunks(tensor: ShardedTensor) -> TensorStorageMetadata:
    return TensorStorageMetadata(
        properties=TensorProperties(dtype=tensor.dtype),
        size=torch.Size(tensor.size),
        chunks=[
            ChunkStorageMetadata(offsets=torch.Size(shard.offsets), sizes=torch.Size(shard.size))
            for shard in tensor.shards
        ],
    )


def _is_empty_shard(item: WriteItem) -> bool:
    """Whether a rank has none of a tensor's rows, because there are fewer rows than ranks."""
    data = item.tensor_data
    return data is not None and 0 in data.chunk.sizes and 0 not in data.size


@contextmanager
def _shared_failures(world: World, task: str) -> Iterator[None]:
    """Raise a rank's own failure in place of torch's report; elsewhere name the rank and its task,
    with the code and the file of a file system's error."""
    try:
        yield
    except CheckpointException as report:
        rank, (error, _) = next(iter(report.failures.items()))
        if world.rank in report.failures:
            raise report.failures[world.rank][0] from None
        failed = f"rank {rank} failed to {task}"
        if not isinstance(error, OSError) or error.errno is None:
            raise OSError(errno.ECANCELED, f"{failed}: {error}") from None
        raise OSError(error.errno, f"{failed}: {error.strerror}", error.filename) from None


@contextmanager
def _without_group_warning() -> Iterator[None]:
    """A single process has no group, of which torch warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", r"torch\.distributed is (disabled|unavailable)", UserWarning
        )
        yield

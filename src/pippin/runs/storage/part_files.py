# SPDX-License-Identifier: Apache-2.0
"""Tensors of one part of a checkpoint (model, ema, optimizer) from its file or files."""

from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from pippin.distributed.shard_files import part_of_file, read_full_tensors, read_index
from pippin.system.tensors import load_tensors


def load_part(path: Path, part: str, files: Sequence[str]) -> dict[str, Tensor]:
    """Full tensors of a part by name, on the CPU. Those of shards are assembled one by one, so
    memory holds little more than the part.

    Args:
        path: the checkpoint.
        part: such as ``ema``.
        files: names of its files, see :func:`pippin.runs.checkpoint_state.part_files`.

    Raises:
        ValueError: a file is damaged; the message names it.
        OSError: a file cannot be read.
    """
    if _is_unsharded(files):
        return load_tensors(path / files[0])
    return {
        name.removeprefix(f"{part}/"): tensor
        for name, tensor in read_full_tensors(path, read_index(path, files))
    }


def part_sizes(path: Path, part: str, files: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Sizes of a part's tensors; only headers are read. Arguments and errors as of
    :func:`load_part`."""
    if not _is_unsharded(files):
        index = read_index(path, files)
        return {name.removeprefix(f"{part}/"): tensor.size for name, tensor in index.items()}
    with safe_open(path / files[0], framework="pt") as file:
        return {
            name: tuple(file.get_slice(name).get_shape())
            for name in file.keys()  # noqa: SIM118
        }


def _is_unsharded(files: Sequence[str]) -> bool:
    """Whether a part is one file of full tensors."""
    return len(files) == 1 and part_of_file(files[0]) is None

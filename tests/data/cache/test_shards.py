# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
import torch

from pippin.data.cache.manifest import read_shard, shard_fault, write_shard
from pippin.system.files import file_digest

IDENTITY = {"key": "abc", "first_row": 0, "end_row": 2}


def tensors() -> dict[str, torch.Tensor]:
    return {
        "mean": torch.arange(8.0).reshape(2, 4).to(torch.bfloat16),
        "label": torch.tensor([3, 1]),
    }


def test_a_shard_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "shard.safetensors"
    write_shard(path, tensors(), IDENTITY)
    result = read_shard(path)
    assert result.keys() == tensors().keys()
    assert all(torch.equal(result[name], tensors()[name]) for name in result)
    assert [p.name for p in tmp_path.iterdir()] == ["shard.safetensors"]


def test_the_same_content_gives_the_same_file(tmp_path: Path) -> None:
    for name in "ab":
        write_shard(tmp_path / name, dict(reversed(tensors().items())), IDENTITY)
    assert file_digest(tmp_path / "a") == file_digest(tmp_path / "b")


def test_identity_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "shard.safetensors"
    assert shard_fault(path, IDENTITY) == "missing"
    write_shard(path, tensors(), IDENTITY)
    assert shard_fault(path, IDENTITY) is None
    assert shard_fault(path, {**IDENTITY, "key": "other"}) == "of other settings"
    assert shard_fault(path, {**IDENTITY, "end_row": 3}) == "of other settings"


@pytest.mark.parametrize("cut", [1, 30, 4000])
def test_a_truncated_shard_is_not_one(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "shard.safetensors"
    write_shard(path, tensors(), IDENTITY)
    content = path.read_bytes()
    path.write_bytes(content[: max(0, len(content) - cut)])
    assert "not readable" in shard_fault(path, IDENTITY)


def test_no_flipped_bit_goes_unseen(tmp_path: Path) -> None:
    path = tmp_path / "shard.safetensors"
    write_shard(path, tensors(), IDENTITY)
    content = bytearray(path.read_bytes())
    for place in [*range(8, len(content), 11), len(content) - 1]:
        flipped = content.copy()
        flipped[place] ^= 1
        if flipped[place : place + 1].isspace() and content[place : place + 1].isspace():
            continue
        path.write_bytes(flipped)
        assert shard_fault(path, IDENTITY), f"byte {place}"

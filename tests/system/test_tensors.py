# SPDX-License-Identifier: Apache-2.0
"""A digest of tensors depends on names and values only."""

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from pippin.system.tensors import save_tensors, tensors_digest

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(2.5), "c": torch.zeros(0)}


def test_order_memory_and_files_do_not_matter(tmp_path):
    wanted = tensors_digest(TENSORS)
    assert tensors_digest(dict(reversed(TENSORS.items()))) == wanted
    strided = TENSORS | {"a": TENSORS["a"].t().contiguous().t()}
    assert not strided["a"].is_contiguous() and tensors_digest(strided) == wanted
    save_tensors(tmp_path / "x.safetensors", strided)
    assert tensors_digest(load_file(tmp_path / "x.safetensors")) == wanted
    grads = {name: torch.nn.Parameter(value) for name, value in TENSORS.items()}
    assert tensors_digest(grads) == wanted


def test_every_name_and_value_matters():
    smallest = torch.nextafter(TENSORS["a"], torch.tensor(9.0))
    others = [
        TENSORS | {"a": smallest},
        TENSORS | {"b": torch.tensor(-2.5)},
        {"d" if name == "a" else name: value for name, value in TENSORS.items()},
        {"a": TENSORS["a"]},
    ]
    digests = {tensors_digest(one) for one in (TENSORS, *others)}
    assert len(digests) == 1 + len(others)


def test_equal_tensors_and_metadata_give_equal_bytes(tmp_path):
    """safetensors writes the entries of the metadata in random order."""
    path, contents = tmp_path / "x.safetensors", set()
    metadata = dict.fromkeys("zyxwvu", 'é "\n')
    for order in (metadata, dict(reversed(metadata.items()))):
        for _ in range(4):
            save_tensors(path, TENSORS, order)
            contents.add(path.read_bytes())
    assert len(contents) == 1
    with safe_open(path, "pt") as file:
        assert file.metadata() == metadata
    assert tensors_digest(load_file(path)) == tensors_digest(TENSORS)

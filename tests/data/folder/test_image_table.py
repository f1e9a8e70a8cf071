# SPDX-License-Identifier: Apache-2.0
"""The table of images of a folder: its versions and permissions."""

import json
import os

import numpy as np
import pytest
from kept_formats import restate_metadata
from safetensors import safe_open
from safetensors.torch import load_file

from pippin.data.folder.image_table import TABLE, ImageTable, save_table
from pippin.system.formats import VERSION, FormatError
from pippin.system.tensors import save_tensors


def test_a_table_of_images_is_read_as_it_was_before_it_had_a_version(tmp_path):
    save_one_image(tmp_path)
    assert len(ImageTable.load(tmp_path)) == 1
    restate_metadata(tmp_path / TABLE, "texts")
    with pytest.raises(FormatError, match=r"images\.safetensors .* image table format 99"):
        ImageTable.load(tmp_path)
    with safe_open(tmp_path / TABLE, framework="pt") as file:
        texts = json.loads(file.metadata()["texts"])
    texts.pop(VERSION)
    save_tensors(
        tmp_path / TABLE, load_file(tmp_path / TABLE), metadata={"texts": json.dumps(texts)}
    )
    assert len(ImageTable.load(tmp_path)) == 1


def test_a_table_of_images_follows_the_umask(tmp_path):
    before = os.umask(0o022)
    try:
        save_one_image(tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / TABLE).stat().st_mode & 0o777 == 0o644


def save_one_image(folder):
    (folder / TABLE).parent.mkdir()
    (folder / "metadata.jsonl").write_text("{}\n")
    names = ("shard", "row", "suffix", "sha256", "height", "width", "rules", "label", "line")
    columns = {name: np.zeros(1, np.int64) for name in (*names, "has_file")}
    save_table(folder, columns, {"suffixes": [".png"], "rules": [[]], "labels": ["a"]})

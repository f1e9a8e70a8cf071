# SPDX-License-Identifier: Apache-2.0
"""Samples of files of every format version, and edits that state a newer one."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from pippin.data.cache.caption_cache import build_bank
from pippin.data.importing.import_sources import FileShard
from pippin.data.importing.parts import read_part
from pippin.system.formats import CHECKSUM, VERSION, with_checksum
from pippin.system.tensors import save_tensors

SAMPLES = Path(__file__).parent / "formats"
VERSIONS = sorted(path.name for path in SAMPLES.iterdir())
CACHE, BANK = "caches/01d000b9f8eb5c0d", "caches/text-10839980f0ca66b0"
SHARD = "shard-00000.safetensors"


def part_of(folder):
    note = json.loads(Path(folder, ".parts/00000.json").read_text())
    return read_part(FileShard(index=0, place="0.tar", identity=note["of"]), Path(folder))


def bank():
    def encoder():
        raise AssertionError("the kept features are used")

    ones = {"folder": Path("caches"), "fingerprint": "0123456789abcdef", "num_tokens": 2}
    return build_bank(["a cat", "a dog"], encoder, dtype=torch.float16, **ones)


def restate_json(path):
    values = json.loads(Path(path).read_text())
    values.pop(CHECKSUM, None)
    Path(path).write_text(json.dumps(with_checksum("run", values) | {VERSION: 99}))


def restate_lines(path):
    lines = [json.loads(line) | {VERSION: 99} for line in Path(path).read_text().splitlines()]
    Path(path).write_text("".join(json.dumps(line) + "\n" for line in lines))


def restate_metadata(path, key):
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    values = json.dumps(json.loads(metadata[key]) | {VERSION: 99})
    save_tensors(Path(path), load_file(path), metadata=metadata | {key: values})


def restate_arrays(path):
    with np.load(path) as arrays:
        np.savez(path, **dict(arrays) | {VERSION: np.asarray(99)})


def write_newer(path):
    Path(path).write_text(json.dumps({VERSION: 99, "data": {}}))

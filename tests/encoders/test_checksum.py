# SPDX-License-Identifier: Apache-2.0
"""Checksums of saved and shipped autoencoders."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig
from pippin.encoders.normalisation import RECORD_KEY, Affine
from pippin.encoders.shipped_digest import check_shipped
from pippin.encoders.source import WEIGHTS_FILE, find_autoencoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, latent_channels=4)
    affine = Affine(torch.full((1, 4, 1, 1), 0.5), torch.full((1, 4, 1, 1), 2.0))
    Autoencoder(network, affine).save(tmp_path, dtype=torch.float16)
    return tmp_path


def metadata_of(folder: Path) -> dict[str, str]:
    with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
        return file.metadata()


def test_a_flipped_bit_in_the_weights_is_found(folder: Path) -> None:
    Autoencoder.from_folder(folder)
    path = folder / WEIGHTS_FILE
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"\.safetensors is damaged: its weights are not"):
        Autoencoder.from_folder(folder)


def test_changed_latent_statistics_are_found(folder: Path) -> None:
    metadata, path = metadata_of(folder), folder / WEIGHTS_FILE
    save_file(load_file(path), path, metadata)
    Autoencoder.from_folder(folder)
    save_file(load_file(path), path, metadata | {"pippin.latents_mean": "[0.5, 0.5, 0.5, 0.25]"})
    with pytest.raises(ValueError, match="latent statistics are not those written"):
        Autoencoder.from_folder(folder)


def test_autoencoders_of_earlier_versions_are_read(folder: Path) -> None:
    metadata, path = metadata_of(folder), folder / WEIGHTS_FILE
    expected = Autoencoder.from_folder(folder).fingerprint
    del metadata[RECORD_KEY]
    save_file(load_file(path), path, metadata)
    assert Autoencoder.from_folder(folder).fingerprint == expected


def test_the_shipped_one_has_a_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    Autoencoder.load(AutoencoderConfig())
    monkeypatch.setattr("pippin.encoders.shipped_digest.recorded_digest", lambda folder: "0" * 64)
    with pytest.raises(ValueError, match="is damaged: the sha256"):
        Autoencoder.load(AutoencoderConfig())


@pytest.mark.parametrize("change", [{"norm_num_groups": 2}, {"act_fn": "relu"}, {"more": 1}])
def test_the_shipped_config_is_what_was_shipped(change: dict[str, Any], tmp_path: Path) -> None:
    """The weights also fit another activation."""
    shipped = find_autoencoder(AutoencoderConfig())
    folder = shutil.copytree(shipped, tmp_path / shipped.name)
    shutil.copy(shipped.parent / "sha256.json", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config, sort_keys=True))
    check_shipped(folder)  # other spaces and another order are no damage
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=r"damaged: .* and config\.json is not the recorded one"):
        check_shipped(folder)

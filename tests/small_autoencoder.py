# SPDX-License-Identifier: Apache-2.0
"""A tiny autoencoder with random weights."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL


@pytest.fixture
def network() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
        mid_block_add_attention=False,
        latent_channels=3,
        scaling_factor=0.5,
        shift_factor=0.25,
    ).eval()


@pytest.fixture
def published(network: AutoencoderKL, tmp_path: Path) -> Path:
    """Folder in diffusers' format."""
    network.save_pretrained(tmp_path / "published")
    return tmp_path / "published"

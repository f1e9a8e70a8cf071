# SPDX-License-Identifier: Apache-2.0
"""A tiny autoencoder with random weights, and simple images."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from pippin.types import Images


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


@pytest.fixture
def images() -> Images:
    """Twelve two-coloured images of 16 pixels."""
    draws = torch.Generator().manual_seed(1)
    colours = torch.randint(0, 256, (12, 2, 3, 1, 1), generator=draws)
    edge = torch.randint(4, 12, (12, 1, 1, 1), generator=draws)
    left = torch.arange(16).view(1, 1, 1, 16) < edge
    return torch.where(left, colours[:, 0], colours[:, 1]).expand(-1, -1, 16, -1).to(torch.uint8)

# SPDX-License-Identifier: Apache-2.0
"""Tiny autoencoders with random weights, one of each class of diffusers that is read."""

from collections.abc import Callable
from typing import Any

import diffusers
import torch


def _kl(**settings: Any) -> Any:
    """SD3's and FLUX's form: no 1 x 1 convolutions, a shift and a factor."""
    return diffusers.AutoencoderKL(
        block_out_channels=(4, 4, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=2,
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **({"scaling_factor": 1.5305, "shift_factor": 0.0609} | settings),
    )


def _kl_statistics() -> Any:
    """SDXL's form with statistics of each channel."""
    mean, std = [0.1 * k for k in range(16)], [1 + 0.2 * k for k in range(16)]
    return _kl(scaling_factor=0.5, shift_factor=None, latents_mean=mean, latents_std=std)


def _flux2() -> Any:
    network = diffusers.AutoencoderKLFlux2(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=3,
        sample_size=16,
    )
    network.bn.running_mean.normal_()
    network.bn.running_var.uniform_(0.5, 2)
    return network


def _qwen() -> Any:
    return diffusers.AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[-0.7, 0.1, 0.9, 1.5],
        latents_std=[2.8, 1.4, 2.3, 0.6],
    )


def _wan() -> Any:
    """Wan 2.2's form, whose encoder reads patches."""
    return diffusers.AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[True],
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=4,
        latents_mean=[-0.7, 0.1, 0.9, 1.5],
        latents_std=[2.8, 1.4, 2.3, 0.6],
    )


def _dc() -> Any:
    return diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_out_channels=(4, 8, 8),
        decoder_block_out_channels=(4, 8, 8),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), ()),
        decoder_qkv_multiscales=((), (), ()),
        scaling_factor=0.41407,
    )


def _tiny() -> Any:
    return diffusers.AutoencoderTiny(
        encoder_block_out_channels=(4, 4, 4),
        decoder_block_out_channels=(4, 4, 4),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        scaling_factor=0.5,
        shift_factor=0.25,
    )


def _hunyuan() -> Any:
    return diffusers.AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32, 32),
        layers_per_block=1,
        spatial_compression_ratio=2,
        sample_size=16,
        scaling_factor=0.75289,
    )


def _kvae() -> Any:
    """A class without statistics."""
    return diffusers.AutoencoderKLKVAE(
        channels=32, num_enc_blocks=1, num_dec_blocks=1, z_channels=4, ch_mult=(1, 1)
    )


NETWORKS: dict[str, tuple[Callable[[], Any], int, int]] = {
    "AutoencoderKL": (_kl, 4, 16),
    "AutoencoderKL with statistics": (_kl_statistics, 4, 16),
    "AutoencoderKLFlux2": (_flux2, 4, 12),
    "AutoencoderKLHunyuanImage": (_hunyuan, 2, 4),
    "AutoencoderKLKVAE": (_kvae, 2, 4),
    "AutoencoderKLQwenImage": (_qwen, 4, 4),
    "AutoencoderKLWan": (_wan, 4, 4),
    "AutoencoderDC": (_dc, 4, 4),
    "AutoencoderTiny": (_tiny, 4, 4),
}
"""Name -> builder, downsampling factor and latent channels."""


def tiny_network(name: str) -> Any:
    """A network of :data:`NETWORKS` with the same random weights at every call."""
    torch.manual_seed(0)
    return NETWORKS[name][0]().eval()

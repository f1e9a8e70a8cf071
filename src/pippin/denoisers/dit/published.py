# SPDX-License-Identifier: Apache-2.0
"""Published DiT, SiT and LightningDiT: their constructor arguments and their tensors.

SiT (Ma et al. 2024, arXiv 2401.08740) and LightningDiT (Yao et al. 2025, arXiv 2501.01423) predict
the velocity data - noise at times from 0 = noise to 1 = data, and read those times as they are.
pippin's velocity is noise - data: the last layer changes its sign.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pippin.denoisers.dit.config import DiTConfig
from pippin.denoisers.weights.arguments import (
    Arguments,
    ModelSpec,
    class_conditional,
    transformer_arguments,
)
from pippin.denoisers.weights.formats import PublishedFormat, unit_positions
from pippin.denoisers.weights.published_layers import adaln_block, class_conditional_ends
from pippin.denoisers.weights.tensor_table import Entry, Shapes
from pippin.diffusion.config import DiffusionConfig, LogitNormalTime
from pippin.nn.rotary import rotary_2d

VA_VAE = "va-vae-f16d32"
"""Name of a folder with VA-VAE's autoencoder (16 times smaller latents of 32 channels)."""


def read_dit(args: Arguments) -> ModelSpec:
    """facebookresearch/DiT, with the defaults of XL/2."""
    args.ignore("class_dropout_prob")
    denoiser = DiTConfig(
        **transformer_arguments(args), learn_variance=args.take("learn_sigma", True)
    )
    return class_conditional(args, denoiser, args.take("input_size", 32))


def dit_table(config: DiTConfig, shapes: Shapes) -> Iterator[Entry]:
    """facebookresearch/DiT, class ``DiT``."""
    yield from class_conditional_ends(shapes)
    for i in range(config.depth):
        yield from adaln_block(f"denoiser.blocks.{i}", f"blocks.{i}", shapes)


def read_sit(args: Arguments) -> ModelSpec:
    """willisma/SiT, with the defaults of XL/2."""
    spec = _read_flow(args, learn_sigma=True, channels=4)
    return replace(spec, diffusion=DiffusionConfig(schedule="flow", prediction="flow"))


def read_lightningdit(args: Arguments) -> ModelSpec:
    """hustvl/LightningDiT, with the defaults of XL/2."""
    args.ignore("use_checkpoint")
    qk_norm, rms = args.take("use_qknorm", False), args.take("use_rmsnorm", False)
    spec = _read_flow(
        args,
        learn_sigma=False,
        channels=32,
        norm="rms" if rms else "layer",
        mlp="swiglu" if args.take("use_swiglu", False) else "gelu",
        rotary=args.take("use_rope", False),
        qk_norm=qk_norm,
        qk_norm_kind="layer" if qk_norm and not rms else "rms",
        modulation_shift=not args.take("wo_shift", False),
    )
    diffusion = DiffusionConfig(schedule="flow", prediction="flow", time_density=LogitNormalTime())
    return replace(spec, diffusion=diffusion, latent_scale=None, autoencoder=VA_VAE)


def _read_flow(args: Arguments, *, learn_sigma: bool, channels: int, **layers: Any) -> ModelSpec:
    args.ignore("class_dropout_prob")
    denoiser = DiTConfig(**transformer_arguments(args), **layers, time_input="data")
    channels = args.take("in_channels", channels)
    spec = class_conditional(args, denoiser, args.take("input_size", 32))
    notes: tuple[str, ...] = ()
    if args.take("learn_sigma", learn_sigma):
        notes = (
            f"learn_sigma: the class computes and discards {channels} further channels; their "
            "rows of final_layer.linear are left out",
        )
    return replace(spec, latent_channels=channels, notes=notes)


def flow_table(config: DiTConfig, shapes: Shapes) -> Iterator[Entry]:
    """willisma/SiT, class ``SiT``, and hustvl/LightningDiT, class ``LightningDiT``."""
    yield from class_conditional_ends(shapes, negated=True)
    for i in range(config.depth):
        yield from adaln_block(f"denoiser.blocks.{i}", f"blocks.{i}", shapes, mlp=config.mlp)


def _without_sigma(spec: ModelSpec, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Last layer without the rows of channels that the class discards."""
    tensors, channels = dict(state), spec.latent_channels
    patch = spec.denoiser.side_multiple**2
    for name in ("final_layer.linear.weight", "final_layer.linear.bias"):
        if name in tensors and len(tensors[name]) == 2 * channels * patch:
            tensors[name] = tensors[name].unflatten(0, (patch, -1))[:, :channels].flatten(0, 1)
    return tensors


def _prepare_lightningdit(spec: ModelSpec, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As for SiT, and refuse rotary tables other than pippin's.

    Raises:
        ValueError: ``feat_rope`` differs from the table that pippin computes.
    """
    assert isinstance(spec.denoiser, DiTConfig)
    side = spec.latent_side // spec.denoiser.patch_size
    rotary = rotary_2d(side, side, spec.denoiser.width // spec.denoiser.num_heads)
    for name, table in (("feat_rope.freqs_cos", rotary.cos), ("feat_rope.freqs_sin", rotary.sin)):
        expected = table.repeat_interleave(2, dim=-1)  # both members of a pair
        if spec.denoiser.rotary and name in state:
            stored = state[name].float().cpu()
            # bf16 rounds by up to 2^-9
            if stored.shape != expected.shape or not torch.allclose(stored, expected, atol=4e-3):
                raise ValueError(
                    f"{name} is not the rotary table of {side} x {side} patches, which pippin "
                    "computes: give the input_size and patch_size of the training"
                )
    return _without_sigma(spec, state)


PUBLISHED = {
    "dit": PublishedFormat(
        read=read_dit,
        table=dit_table,
        stores_side=True,
        fixed_positions=unit_positions,
        guided="constant",
    ),
    "sit": PublishedFormat(
        read=read_sit,
        table=flow_table,
        stores_side=True,
        fixed_positions=unit_positions,
        guided="constant",
        data_time=True,
        prepare=_without_sigma,
    ),
    "lightningdit": PublishedFormat(
        read=read_lightningdit,
        table=flow_table,
        stores_side=True,
        fixed_positions=unit_positions,
        guided="interval",
        data_time=True,
        prepare=_prepare_lightningdit,
    ),
}

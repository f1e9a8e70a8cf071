# SPDX-License-Identifier: Apache-2.0
"""Autoencoders in LDM's layout as folders of diffusers' AutoencoderKL.

LDM's KL autoencoders (Rombach et al. 2022, arXiv 2112.10752), among them VA-VAE (Yao et al. 2025,
arXiv 2501.01423), are checkpoints without a description. Everything but the groups of the norms
follows from the names and shapes of their tensors. A separate file of VA-VAE holds mean and
standard deviation of each latent channel.

The networks are the same as diffusers'; names differ, ``decoder.up`` counts from the highest
resolution and diffusers from the lowest, and attention has 1 x 1 convolutions for linear layers.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL
from torch import Tensor

from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.normalisation import Affine
from pippin.interop.weight_files import read_weights
from pippin.system.formats import ENTRY_ERRORS
from pippin.system.weight_checks import check_plain, join_names
from pippin.system.weight_files import read_tensors

ANCHORS = ("encoder.down.0.block.0.conv1.weight", "decoder.up.0.block.0.conv1.weight")
"""Tensors that locate the autoencoder in a checkpoint."""
PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
"""Starts of the names of the autoencoder; the rest belongs to its training."""
NORM_GROUPS = 32
"""Groups of every GroupNorm in LDM."""
STATISTICS = ("mean", "std")
"""Tensors of a file of latent statistics."""
Names = Iterator[tuple[str, str]]
"""Pairs (name in LDM, name in diffusers), without the ends weight and bias."""


@dataclass(frozen=True, kw_only=True)
class LDMLayout:
    """Architecture of an autoencoder, by its tensors."""

    widths: tuple[int, ...]
    """Channels at each resolution, the highest first."""
    blocks: int
    """Residual blocks of the encoder at each resolution; the decoder has one more."""
    latent_channels: int
    in_channels: int
    out_channels: int
    encoder_attention: tuple[bool, ...]
    """Whether each resolution of the encoder has attention."""
    decoder_attention: tuple[bool, ...]
    """Whether each resolution of the decoder has attention, the highest first."""
    mid_attention: bool

    def config(self, norm_groups: int) -> dict[str, Any]:
        """Arguments of AutoencoderKL."""
        down, up = ("DownEncoderBlock2D", "UpDecoderBlock2D")
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "latent_channels": self.latent_channels,
            "block_out_channels": self.widths,
            "layers_per_block": self.blocks,
            "norm_num_groups": norm_groups,
            "down_block_types": tuple(
                f"Attn{down}" if a else down for a in self.encoder_attention
            ),
            "up_block_types": tuple(
                f"Attn{up}" if a else up for a in reversed(self.decoder_attention)
            ),
            "mid_block_add_attention": self.mid_attention,
            "scaling_factor": None,
        }


@dataclass(frozen=True, kw_only=True)
class ConvertedAutoencoder:
    """Autoencoder of a checkpoint."""

    autoencoder: Autoencoder
    notes: tuple[str, ...]
    dropped: tuple[str, ...]
    """Starts of the names of tensors that belong to the training, such as loss."""


def convert_autoencoder(
    path: Path,
    *,
    statistics: Path | None = None,
    key: str | None = None,
    norm_groups: int = NORM_GROUPS,
) -> ConvertedAutoencoder:
    """Read an autoencoder in LDM's layout.

    Args:
        path: a checkpoint.
        statistics: file with the tensors mean and std of each latent channel; None = the
            autoencoder has no statistics, and a run measures them.
        key: entry of the checkpoint, or prefix of its names, that holds the weights.
        norm_groups: groups of every GroupNorm.

    Raises:
        ValueError: no such weights, weights of another architecture, or statistics that do not
            fit, which are read first; the message names them.
        FileNotFoundError: no such checkpoint.
    """
    affine = None if statistics is None else read_statistics(statistics)
    weights = read_weights(path, ANCHORS, key)
    own = {name: value for name, value in weights.tensors.items() if name.startswith(PARTS)}
    dropped = {name.split(".")[0] for name in weights.tensors if name not in own}
    check_plain(own, str(path))
    try:
        layout = read_ldm_layout(own)
        network = AutoencoderKL(**layout.config(norm_groups))
        network.load_state_dict(to_diffusers_names(own, layout))
    except (RuntimeError, *ENTRY_ERRORS) as error:
        raise ValueError(
            f"{path} holds no KL autoencoder in LDM's layout whose posterior has the decoder's "
            f"channels: {error}. Allowed are kl-f4 to kl-f32, Stable Diffusion's and VA-VAE's; "
            "give --arguments norm_num_groups=N if their norms have other than 32 groups"
        ) from error
    if affine is not None and affine.shift.numel() != layout.latent_channels:
        raise _unfit(statistics, f"{affine.shift.numel()} numbers each", layout.latent_channels)
    return ConvertedAutoencoder(
        autoencoder=Autoencoder(network, affine),
        notes=weights.notes,
        dropped=tuple(sorted(dropped)),
    )


def read_statistics(path: Path) -> Affine:
    """Affine of a file of latent statistics, such as VA-VAE's latents_stats.pt.

    Raises:
        ValueError: no such file, other tensors, or numbers that normalise nothing; the message
            names option and path.
    """
    try:
        tensors = read_tensors(path)
    except (OSError, ValueError) as error:
        raise _unfit(path, f"no readable file ({error})") from error
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    if set(tensors) != set(STATISTICS) or len({v.numel() for v in tensors.values()}) != 1:
        raise _unfit(path, str(shapes))
    mean, std = (tensors[name].detach().flatten().float() for name in STATISTICS)
    try:
        return Affine.from_statistics(mean, std)
    except ValueError as error:
        raise _unfit(path, f"other numbers ({error})") from error


def _unfit(path: Path | None, got: str, channels: int | None = None) -> ValueError:
    """Error of statistics that do not fit; ``channels`` where the weights are known."""
    count = "as many numbers as latent channels" if channels is None else f"{channels} numbers"
    return ValueError(
        f"--statistics {path} must hold the tensors mean and std, of {count} each; got {got}: "
        "give the file that belongs to these weights, or leave --statistics out and train with "
        "--autoencoder.normalisation measured"
    )


def read_ldm_layout(tensors: Mapping[str, Tensor]) -> LDMLayout:
    """Architecture of tensors in LDM's layout.

    Raises:
        KeyError: a tensor that every such autoencoder has is missing.
        ValueError: the encoder's posterior does not fit the decoder.
    """
    levels = range(_count(tensors, r"encoder\.down\.(\d+)\."))
    latent_channels = tensors["decoder.conv_in.weight"].shape[1]
    moments = tensors["encoder.conv_out.weight"].shape[0]
    inner = {
        name: tuple(tensors[f"{name}.weight"].shape[:2])
        for name in ("quant_conv", "post_quant_conv")
        if f"{name}.weight" in tensors
    }
    expected = {"quant_conv": (moments,) * 2, "post_quant_conv": (latent_channels,) * 2}
    if moments != 2 * latent_channels or inner != expected:
        raise ValueError(
            f"the encoder gives {moments} channels, the decoder reads {latent_channels}, and "
            f"between them are convolutions of (out, in) channels {inner or 'none'}"
        )
    return LDMLayout(
        widths=tuple(len(tensors[f"encoder.down.{k}.block.0.conv2.weight"]) for k in levels),
        blocks=_count(tensors, r"encoder\.down\.0\.block\.(\d+)\."),
        latent_channels=latent_channels,
        in_channels=tensors["encoder.conv_in.weight"].shape[1],
        out_channels=tensors["decoder.conv_out.weight"].shape[0],
        encoder_attention=tuple(f"encoder.down.{k}.attn.0.q.weight" in tensors for k in levels),
        decoder_attention=tuple(f"decoder.up.{k}.attn.0.q.weight" in tensors for k in levels),
        mid_attention="encoder.mid.attn_1.q.weight" in tensors,
    )


def to_diffusers_names(tensors: Mapping[str, Tensor], layout: LDMLayout) -> dict[str, Tensor]:
    """Tensors under diffusers' names, in its shapes.

    Raises:
        ValueError: tensors that this architecture does not have; missing ones are found when the
            result is loaded.
    """
    names, placed = dict(name_map(layout)), {}
    unknown = [name for name in tensors if name.rpartition(".")[0] not in names]
    if unknown:
        raise ValueError(f"{len(unknown)} unknown tensors: {join_names(sorted(unknown))}")
    for name, value in tensors.items():
        layer, _, end = name.rpartition(".")
        is_linear = re.search(r"\.to_(q|k|v|out\.0)$", names[layer]) is not None
        linear = value[:, :, 0, 0] if is_linear and value.dim() == 4 else value
        placed[f"{names[layer]}.{end}"] = linear.float().contiguous()
    return placed


def name_map(layout: LDMLayout) -> Names:
    """Name of each layer in both layouts, every layer once."""
    yield from ((name, name) for name in ("quant_conv", "post_quant_conv"))
    last = len(layout.widths) - 1
    for half in ("encoder", "decoder"):
        for name, new in (("conv_in",) * 2, ("norm_out", "conv_norm_out"), ("conv_out",) * 2):
            yield f"{half}.{name}", f"{half}.{new}"
        for k in (0, 1):
            yield from _block(f"{half}.mid.block_{k + 1}", f"{half}.mid_block.resnets.{k}")
        if layout.mid_attention:
            yield from _attention(f"{half}.mid.attn_1", f"{half}.mid_block.attentions.0")
    for level in range(last + 1):
        down, up = f"encoder.down_blocks.{level}", f"decoder.up_blocks.{last - level}"
        attends = layout.encoder_attention[level]
        yield from _level(f"encoder.down.{level}", down, layout.blocks, attends=attends)
        attends = layout.decoder_attention[level]
        yield from _level(f"decoder.up.{level}", up, layout.blocks + 1, attends=attends)
        if level < last:
            yield f"encoder.down.{level}.downsample.conv", f"{down}.downsamplers.0.conv"
        if level:
            yield f"decoder.up.{level}.upsample.conv", f"{up}.upsamplers.0.conv"


def _level(name: str, new: str, blocks: int, *, attends: bool) -> Names:
    """Layers of one resolution, without the change of resolution."""
    for k in range(blocks):
        yield from _block(f"{name}.block.{k}", f"{new}.resnets.{k}")
        if attends:
            yield from _attention(f"{name}.attn.{k}", f"{new}.attentions.{k}")


def _block(name: str, new: str) -> Names:
    """Layers of a residual block; the shortcut only where the channels change."""
    yield from ((f"{name}.{part}", f"{new}.{part}") for part in ("norm1", "conv1"))
    yield from ((f"{name}.{part}", f"{new}.{part}") for part in ("norm2", "conv2"))
    yield f"{name}.nin_shortcut", f"{new}.conv_shortcut"


def _attention(name: str, new: str) -> Names:
    parts = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
    yield from ((f"{name}.{part}", f"{new}.{other}") for part, other in parts.items())


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """Number of different numbers at a place of the names."""
    return len({match[1] for name in tensors if (match := re.match(pattern, name))})

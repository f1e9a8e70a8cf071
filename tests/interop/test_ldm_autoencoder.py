# SPDX-License-Identifier: Apache-2.0
"""Autoencoders in LDM's layout: names, architecture, statistics, and numbers of a reference.

The reference computes from the tensors by their names in LDM, with torch's functions alone.
"""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pippin.cli.main import main
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig
from pippin.interop.ldm_autoencoder import (
    LDMLayout,
    convert_autoencoder,
    name_map,
    read_ldm_layout,
    to_diffusers_names,
)

GROUPS = 2
LAYOUT = LDMLayout(
    widths=(4, 4, 8),
    blocks=2,
    latent_channels=6,
    in_channels=3,
    out_channels=3,
    encoder_attention=(False, False, True),
    decoder_attention=(False, False, True),
    mid_attention=True,
)
"""VA-VAE's at a small size: attention at the lowest resolution."""


def conv_shapes(name: str, out: int, inner: int, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, inner, size, size), f"{name}.bias": (out,)}


def block_shapes(name: str, inner: int, out: int) -> dict[str, tuple[int, ...]]:
    shapes = conv_shapes(f"{name}.conv1", out, inner, 3) | conv_shapes(
        f"{name}.conv2", out, out, 3
    )
    for norm, width in (("norm1", inner), ("norm2", out)):
        shapes |= {f"{name}.{norm}.{end}": (width,) for end in ("weight", "bias")}
    return shapes | (conv_shapes(f"{name}.nin_shortcut", out, inner, 1) if inner != out else {})


def attention_shapes(name: str, width: int) -> dict[str, tuple[int, ...]]:
    shapes = {f"{name}.norm.{end}": (width,) for end in ("weight", "bias")}
    for part in ("q", "k", "v", "proj_out"):
        shapes |= conv_shapes(f"{name}.{part}", width, width, 1)
    return shapes


def level_shapes(
    name: str, blocks: int, inner: int, out: int, attends: bool
) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for k in range(blocks):
        shapes |= block_shapes(f"{name}.block.{k}", inner if k == 0 else out, out)
        shapes |= attention_shapes(f"{name}.attn.{k}", out) if attends else {}
    return shapes


def half_shapes(half: str, layout: LDMLayout) -> dict[str, tuple[int, ...]]:
    """Everything but the levels of one half."""
    lowest, z = layout.widths[-1], layout.latent_channels
    first, last, end = (
        ((layout.widths[0], 3), (2 * z, lowest), lowest)
        if half == "encoder"
        else ((lowest, z), (3, layout.widths[0]), layout.widths[0])
    )
    shapes = conv_shapes(f"{half}.conv_in", *first, 3) | conv_shapes(f"{half}.conv_out", *last, 3)
    shapes |= {f"{half}.norm_out.{part}": (end,) for part in ("weight", "bias")}
    shapes |= attention_shapes(f"{half}.mid.attn_1", lowest) if layout.mid_attention else {}
    for k in (1, 2):
        shapes |= block_shapes(f"{half}.mid.block_{k}", lowest, lowest)
    return shapes


def ldm_tensors(layout: LDMLayout = LAYOUT) -> dict[str, Tensor]:
    """Random tensors of LDM's AutoencoderKL."""
    z, widths, last = layout.latent_channels, layout.widths, len(layout.widths) - 1
    shapes = conv_shapes("quant_conv", 2 * z, 2 * z, 1) | conv_shapes("post_quant_conv", z, z, 1)
    shapes |= half_shapes("encoder", layout) | half_shapes("decoder", layout)
    for k, width in enumerate(widths):
        above, below = widths[max(0, k - 1)], widths[min(last, k + 1)]
        attends = layout.encoder_attention[k]
        shapes |= level_shapes(f"encoder.down.{k}", layout.blocks, above, width, attends)
        attends = layout.decoder_attention[k]
        shapes |= level_shapes(f"decoder.up.{k}", layout.blocks + 1, below, width, attends)
        if k < last:
            shapes |= conv_shapes(f"encoder.down.{k}.downsample.conv", width, width, 3)
        if k:
            shapes |= conv_shapes(f"decoder.up.{k}.upsample.conv", width, width, 3)
    draws = torch.Generator().manual_seed(0)
    return {name: 0.4 * torch.randn(shape, generator=draws) for name, shape in shapes.items()}


class Reference:
    """LDM's autoencoder from its tensors."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def conv(self, name: str, x: Tensor, **options: int) -> Tensor:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        padding = {"padding": weight.shape[-1] // 2} | options
        return F.conv2d(x, weight, bias, **padding)

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return F.group_norm(x, GROUPS, weight, bias, eps=1e-6)

    def block(self, name: str, x: Tensor) -> Tensor:
        inner = self.conv(f"{name}.conv1", F.silu(self.norm(f"{name}.norm1", x)))
        inner = self.conv(f"{name}.conv2", F.silu(self.norm(f"{name}.norm2", inner)))
        has_shortcut = f"{name}.nin_shortcut.weight" in self.tensors
        return inner + (self.conv(f"{name}.nin_shortcut", x) if has_shortcut else x)

    def attention(self, name: str, x: Tensor) -> Tensor:
        if f"{name}.q.weight" not in self.tensors:
            return x
        normed = self.norm(f"{name}.norm", x)
        q, k, v = (self.conv(f"{name}.{part}", normed).flatten(2).mT for part in "qkv")
        mixed = torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, dim=-1) @ v
        return x + self.conv(f"{name}.proj_out", mixed.mT.unflatten(2, x.shape[2:]))

    def level(self, name: str, x: Tensor, blocks: int) -> Tensor:
        for k in range(blocks):
            x = self.attention(f"{name}.attn.{k}", self.block(f"{name}.block.{k}", x))
        return x

    def middle(self, half: str, x: Tensor) -> Tensor:
        x = self.attention(f"{half}.mid.attn_1", self.block(f"{half}.mid.block_1", x))
        return self.block(f"{half}.mid.block_2", x)

    def end(self, half: str, x: Tensor) -> Tensor:
        return self.conv(f"{half}.conv_out", F.silu(self.norm(f"{half}.norm_out", x)))

    def mean(self, pixels: Tensor) -> Tensor:
        x = self.conv("encoder.conv_in", pixels)
        for k in range(len(LAYOUT.widths)):
            x = self.level(f"encoder.down.{k}", x, LAYOUT.blocks)
            if k < len(LAYOUT.widths) - 1:  # padded below and on the right only
                padded = F.pad(x, (0, 1, 0, 1))
                x = self.conv(f"encoder.down.{k}.downsample.conv", padded, stride=2, padding=0)
        moments = self.end("encoder", self.middle("encoder", x))
        return self.conv("quant_conv", moments).chunk(2, dim=1)[0]

    def decode(self, latents: Tensor) -> Tensor:
        x = self.conv("decoder.conv_in", self.conv("post_quant_conv", latents))
        x = self.middle("decoder", x)
        for k in reversed(range(len(LAYOUT.widths))):
            x = self.level(f"decoder.up.{k}", x, LAYOUT.blocks + 1)
            if k:
                x = self.conv(f"decoder.up.{k}.upsample.conv", F.interpolate(x, scale_factor=2))
        return self.end("decoder", x)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint of VA-VAE's training: the autoencoder, its loss, and its frozen features."""
    others = {"loss.discriminator.main.0.weight": torch.zeros(2, 2), "linear_proj.weight": 0.0}
    others = {name: torch.as_tensor(value) for name, value in others.items()}
    features = {"foundation_model.model.norm.weight": torch.ones(3)}
    path = tmp_path / "vavae.pt"
    torch.save({"state_dict": ldm_tensors() | others | features, "epoch": 3}, path)
    return path


@pytest.fixture
def statistics(tmp_path: Path) -> Path:
    """The form of VA-VAE's latents_stats.pt."""
    path, z = tmp_path / "latents_stats.pt", LAYOUT.latent_channels
    mean, std = torch.arange(z) / 10 - 0.2, 1 + torch.arange(z) / 5
    torch.save({"mean": mean.view(1, z, 1, 1), "std": std.view(1, z, 1, 1)}, path)
    return path


def test_the_architecture_follows_from_the_tensors() -> None:
    assert read_ldm_layout(ldm_tensors()) == LAYOUT


def test_every_tensor_is_placed_once() -> None:
    tensors = ldm_tensors()
    names = dict(name_map(LAYOUT))
    assert len(names) == len(list(name_map(LAYOUT))) == len(set(names.values()))
    placed = to_diffusers_names(tensors, LAYOUT)
    assert len(placed) == len(tensors)
    assert sum(v.numel() for v in placed.values()) == sum(v.numel() for v in tensors.values())


@torch.no_grad()
def test_numbers_are_those_of_the_reference(checkpoint: Path, statistics: Path) -> None:
    own = convert_autoencoder(checkpoint, statistics=statistics, norm_groups=GROUPS).autoencoder
    reference = Reference(ldm_tensors())
    pixels = torch.linspace(-1, 1, 2 * 3 * 16 * 8).view(2, 3, 16, 8).sin()
    mean, latent_statistics = reference.mean(pixels), torch.load(statistics)
    expected = (mean - latent_statistics["mean"]) / latent_statistics["std"]
    torch.testing.assert_close(
        own.normalise(own.encode(pixels).mean), expected, rtol=1e-4, atol=1e-4
    )
    decoded = own.network.decode(mean).sample
    torch.testing.assert_close(decoded, reference.decode(mean), rtol=1e-4, atol=1e-4)


def test_the_command_writes_a_folder_for_autoencoder_source(
    checkpoint: Path, statistics: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "va-vae"
    command = ["convert", str(checkpoint), str(out), "--from", "ldm_vae"]
    command += ["--arguments", f"norm_num_groups={GROUPS}"]
    assert main([*command, "--statistics", str(statistics)]) == 0
    printed = capsys.readouterr().out
    assert "factor 4, 6 channels" in printed and f"--autoencoder.source {out}" in printed
    assert "dropped: foundation_model, linear_proj, loss" in printed
    own = Autoencoder.load(AutoencoderConfig(source=str(out)))
    assert own.latent_shape(32) == (6, 8, 8)
    assert torch.equal(own.scale, torch.load(statistics)["std"])
    assert main([*command, "--statistics", str(statistics)]) != 0  # the folder exists
    command[2] = str(tmp_path / "bare")
    assert main(command) == 0
    assert "--autoencoder.normalisation measured" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no latent statistics"):
        Autoencoder.load(AutoencoderConfig(source=command[2]))


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    def refused(tensors: dict[str, Tensor], message: str) -> None:
        torch.save(tensors, tmp_path / "other.pt")
        with pytest.raises(ValueError, match=message):
            convert_autoencoder(tmp_path / "other.pt", norm_groups=GROUPS)

    tensors = ldm_tensors()
    refused(
        tensors | {"encoder.extra.weight": torch.ones(1)}, r"1 unknown tensors: encoder\.extra"
    )
    missing = {n: v for n, v in tensors.items() if n != "decoder.mid.block_2.norm1.bias"}
    refused(missing, r"decoder\.mid_block\.resnets\.1\.norm1\.bias")
    fixed = {"quant_conv.weight": torch.ones(6, 12, 1, 1)}  # no posterior: half the channels
    refused(tensors | fixed, r"'quant_conv': \(6, 12\)")
    flat = {"decoder.conv_in.weight": torch.ones(3)}
    refused(tensors | flat, "holds no KL autoencoder in LDM's layout")


@pytest.mark.parametrize("groups", ["0", "-1", "x", "2.0", "True"])
def test_another_number_of_groups_is_refused_before_files_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], groups: str
) -> None:
    command = ["convert", str(tmp_path / "missing.pt"), str(tmp_path / "out"), "--from", "ldm_vae"]
    assert main([*command, "--arguments", f"norm_num_groups={groups}"]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert f"norm_num_groups={groups} is no number of groups; it must be an integer" in message
    assert "leave it out for 32" in message


def test_statistics_of_other_latents_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"mean": torch.zeros(4), "std": torch.ones(4)}, path)
    with pytest.raises(ValueError, match=r"must hold .* of 6 numbers .*got 4 numbers.*measured"):
        convert_autoencoder(checkpoint, statistics=path, norm_groups=GROUPS)


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (None, r"no readable file \(.* is not a file"),
        (b"damaged", r"no readable file \("),
        ({"mean": torch.zeros(6)}, r"\{'mean': \(6,\)\}"),
        ({"mean": torch.zeros(6), "std": torch.ones(5)}, r"'std': \(5,\)"),
        ({"mean": torch.zeros(6), "std": torch.zeros(6)}, r"other numbers \(.*positive"),
    ],
)
def test_statistics_are_read_before_the_checkpoint(
    tmp_path: Path, content: object, got: str
) -> None:
    path = tmp_path / "stats.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ValueError, match=rf"--statistics .*stats\.pt must hold .*got .*{got}"):
        convert_autoencoder(tmp_path / "missing.pt", statistics=path)

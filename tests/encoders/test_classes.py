# SPDX-License-Identifier: Apache-2.0
"""Classes of diffusers: latents, normalisation and images as in diffusers' own pipelines."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_autoencoders import NETWORKS, tiny_network
from torch import Tensor

from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.classes import CLASSES, read_layout, supported_classes
from pippin.encoders.config import AutoencoderConfig
from pippin.encoders.network_classes import class_defaults
from pippin.encoders.networks import architecture, network_kind
from pippin.encoders.normalisation import read_affine, to_images, to_pixels
from pippin.encoders.source import WEIGHTS_FILE
from pippin.recipes.recipe import latent_layout
from pippin.recipes.table import get_recipe
from pippin.rng import normal
from pippin.types import Images

WITHOUT_STATISTICS = "AutoencoderKLKVAE"
ROUNDING = {"rtol": 2e-6, "atol": 2e-6}
"""A pipeline multiplies by scaling_factor where pippin divides by its inverse."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each network in diffusers' format."""
    parent, places = tmp_path_factory.mktemp("classes"), {}
    for name in NETWORKS:
        places[name] = parent / name.replace(" ", "-")
        tiny_network(name).save_pretrained(places[name])
    return places


@pytest.fixture
def pixels(images: Images) -> Tensor:
    return to_pixels(images[:2])


def load(folder: Path, normalisation: Any = "weights") -> Autoencoder:
    return Autoencoder.load(AutoencoderConfig(source=str(folder), normalisation=normalisation))


def row(values: Any) -> Tensor:
    return torch.as_tensor(values).view(1, -1, 1, 1)


def folded(latents: Tensor) -> Tensor:
    """2 x 2 patches as channels, in the order of FLUX.2's pipeline."""
    batch, channels, height, width = latents.shape
    parts = latents.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
    return parts.reshape(batch, channels * 4, height // 2, width // 2)


def unfolded(latents: Tensor) -> Tensor:
    batch, channels, height, width = latents.shape
    parts = latents.reshape(batch, channels // 4, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(batch, channels // 4, height * 2, width * 2)


def pipeline_encode(name: str, network: Any, pixels: Tensor) -> Tensor:
    """Latents as diffusers' pipelines give them to their denoisers, by the posterior's mode."""
    config = network.config
    if name == "AutoencoderDC":
        return network.encode(pixels).latent * config.scaling_factor
    if name == "AutoencoderTiny":
        return (network.encode(pixels).latents - config.shift_factor) * config.scaling_factor
    if name in ("AutoencoderKLQwenImage", "AutoencoderKLWan"):
        raw = network.encode(pixels[:, :, None]).latent_dist.mode()[:, :, 0]
        return (raw - row(config.latents_mean)) * (1.0 / row(config.latents_std))
    raw = network.encode(pixels).latent_dist.mode()
    if name == "AutoencoderKLFlux2":
        std = torch.sqrt(row(network.bn.running_var) + config.batch_norm_eps)
        return (folded(raw) - row(network.bn.running_mean)) / std
    if name == "AutoencoderKL with statistics":
        return (raw - row(config.latents_mean)) * config.scaling_factor / row(config.latents_std)
    return (raw - (config.get("shift_factor") or 0)) * config.scaling_factor


def pipeline_decode(name: str, network: Any, latents: Tensor) -> Tensor:
    """Pixels as diffusers' pipelines decode them."""
    config = network.config
    if name in ("AutoencoderKLQwenImage", "AutoencoderKLWan"):
        raw = latents / (1.0 / row(config.latents_std)) + row(config.latents_mean)
        return network.decode(raw[:, :, None]).sample[:, :, 0]
    if name == "AutoencoderKLFlux2":
        std = torch.sqrt(row(network.bn.running_var) + config.batch_norm_eps)
        return network.decode(unfolded(latents * std + row(network.bn.running_mean))).sample
    if name == "AutoencoderKL with statistics":
        std = row(config.latents_std)
        return network.decode(
            latents * std / config.scaling_factor + row(config.latents_mean)
        ).sample
    return network.decode(
        latents / config.scaling_factor + (config.get("shift_factor") or 0)
    ).sample


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != WITHOUT_STATISTICS])
@torch.no_grad()
def test_latents_and_images_are_those_of_diffusers_pipelines(
    folders: dict[str, Path], name: str, pixels: Tensor
) -> None:
    own, reference = load(folders[name]), tiny_network(name)
    moments = own.encode(pixels)
    latents = own.sample(moments, torch.zeros_like(moments.mean))
    expected = pipeline_encode(name, reference, pixels)
    torch.testing.assert_close(latents, expected, **ROUNDING)
    decoded = to_images(pipeline_decode(name, reference, expected))
    assert (own.decode(latents).int() - decoded.int()).abs().max() <= 1
    assert torch.equal(read_affine(folders[name]).scale, own.scale)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_shape_of_latents_follows_from_the_configuration(
    folders: dict[str, Path], name: str, pixels: Tensor
) -> None:
    _, factor, channels = NETWORKS[name]
    layout = read_layout(json.loads((folders[name] / "config.json").read_text()))
    assert (layout.factor, layout.channels) == (factor, channels)
    moments = load(folders[name], "measured").encode(pixels)
    assert moments.mean.shape == (2, channels, 16 // factor, 16 // factor)
    assert (moments.std is not None) == layout.has_variance


@pytest.mark.parametrize("name", NETWORKS)
def test_a_saved_autoencoder_is_the_same(
    folders: dict[str, Path], name: str, tmp_path: Path
) -> None:
    own = load(folders[name], "measured")
    own.save(tmp_path / "own")
    loaded = load(tmp_path / "own", "measured")
    assert loaded.fingerprint == own.fingerprint
    assert loaded.has_statistics == own.has_statistics == (name != WITHOUT_STATISTICS)
    own.save(tmp_path / "half", dtype=torch.float16)
    assert torch.equal(load(tmp_path / "half", "measured").scale, own.scale)


def test_defaults_of_each_class_have_a_layout() -> None:
    """Settings that config.json leaves out have the defaults of diffusers."""
    for name in ("AutoencoderKLFlux2", "AutoencoderKLKVAE", "AutoencoderKLQwenImage"):
        kind = CLASSES[name]
        assert kind.layout({}) == kind.layout(class_defaults(kind))
    for name in ("AutoencoderKLWan", "AutoencoderDC", "AutoencoderTiny"):
        kind = CLASSES[name]
        assert kind.layout({}) == kind.layout(class_defaults(kind))


def test_settings_that_later_versions_add_change_no_fingerprint() -> None:
    network = tiny_network("AutoencoderDC")
    kind, config = network_kind(network), dict(network.config)
    assert architecture(config | {"later": 1}, kind) == architecture(config, kind)
    assert architecture(config | {"scaling_factor": 9}, kind) == architecture(config, kind)
    assert architecture(config | {"latent_channels": 9}, kind) != architecture(config, kind)


@pytest.mark.parametrize("name", ["AutoencoderDC", "AutoencoderTiny"])
def test_a_deterministic_encoder_ignores_the_noise(
    folders: dict[str, Path], name: str, pixels: Tensor
) -> None:
    own = load(folders[name])
    moments = own.encode(pixels)
    assert moments.std is None
    noise = normal(tuple(moments.mean.shape), "noise", 0)
    assert torch.equal(own.sample(moments, noise), own.normalise(moments.mean))


def test_an_autoencoder_without_statistics_needs_measured_ones(folders: dict[str, Path]) -> None:
    folder = folders[WITHOUT_STATISTICS]
    for read in (load, read_affine):
        with pytest.raises(ValueError, match=r"no latent statistics.*normalisation measured"):
            read(folder)
    own = load(folder, "measured")
    assert not own.has_statistics
    assert torch.equal(own.normalise(torch.ones(1, 4, 1, 1)), torch.ones(1, 4, 1, 1))


@pytest.mark.parametrize("name", ["VQModel", "AutoencoderOobleck", 7, ["AutoencoderKL"], {}])
def test_an_unsupported_class_is_refused_with_what_is_allowed(
    folders: dict[str, Path], tmp_path: Path, name: object
) -> None:
    (tmp_path / WEIGHTS_FILE).write_bytes(b"")
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": name}))
    for read in (load, read_affine):
        with pytest.raises(ValueError, match="unsupported class") as caught:
            read(tmp_path)
        message = str(caught.value)
        assert str(tmp_path) in message and repr(name) in message
        assert all(allowed in message for allowed in supported_classes())
        assert "--autoencoder.source" in message


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("AutoencoderKL", {"scaling_factor": 0}),
        ("AutoencoderKL", {"scaling_factor": "x"}),
        ("AutoencoderKLWan", {"latents_mean": 4}),
    ],
)
def test_statistics_that_are_no_numbers_are_refused_with_the_folder(
    folders: dict[str, Path], tmp_path: Path, name: str, change: dict[str, Any]
) -> None:
    folder = shutil.copytree(folders[name], tmp_path / "damaged")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    for read in (load, read_affine):
        with pytest.raises(ValueError, match=r"damaged.*save it again") as caught:
            read(folder)
        assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("AutoencoderKL", {"block_out_channels": []}, "got 0.5 and 16"),
        ("AutoencoderKL", {"block_out_channels": 8}, "TypeError"),
        ("AutoencoderKL", {"latent_channels": 0}, "got 4 and 0"),
        ("AutoencoderKLHunyuanImage", {"spatial_compression_ratio": 0}, "got 0 and "),
        ("AutoencoderKLFlux2", {"patch_size": [0, 0]}, "got 0 and 0"),
    ],
)
def test_a_shape_that_no_latents_have_is_refused_with_the_folder(
    folders: dict[str, Path], tmp_path: Path, name: str, change: dict[str, Any], reason: str
) -> None:
    folder = shutil.copytree(folders[name], tmp_path / "damaged")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    source = AutoencoderConfig(source=str(folder))
    recipe = replace(get_recipe("openmoji/dit-entangled"), autoencoder=source)
    for read in (load, read_affine, lambda place: latent_layout(recipe)):
        with pytest.raises(ValueError, match="damaged") as caught:
            read(folder)
        assert str(folder) in str(caught.value)
        if reason != "TypeError":
            assert reason in str(caught.value)

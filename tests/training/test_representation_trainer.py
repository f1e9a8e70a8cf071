# SPDX-License-Identifier: Apache-2.0
"""Training of a decoder of frozen features."""

import math
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import pytest
import torch
from transformers import Dinov2Config, Dinov2Model

from pippin.cli import autoencoder as verb
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig, AutoencoderTrainConfig
from pippin.encoders.normalisation import to_pixels
from pippin.encoders.representation.config import RepresentationConfig
from pippin.encoders.representation.efflite0 import EffLite0Encoder
from pippin.encoders.representation.network import encode_features
from pippin.recipes.recipe import latent_shape_of
from pippin.recipes.table import get_recipe
from pippin.rng import normal
from pippin.system.tensors import typed_digest
from pippin.training.autoencoder.representation import add_noise
from pippin.training.autoencoder.state import RunState, read_state, write_state
from pippin.training.autoencoder.trainer import AutoencoderTrainer

CONFIG = AutoencoderTrainConfig(
    images=80,
    batch_size=4,
    learning_rate=0.1,
    vector_learning_rate=1e-2,
    warmup_images=4,
    block_channels=(8, 16, 16),
    device="cpu",
    log_every=4,
    checkpoint_every=8,
    representation=RepresentationConfig(encoder="efflite0"),
)


@pytest.fixture
def batches(images):
    def stream(start):
        while True:
            yield images[torch.arange(start, start + 4) % len(images)]
            start += 4

    return stream


def ignored(images, figures):
    assert images > 0 and figures["kl"] == figures["scale"] == 0


@torch.no_grad()
def error(trainer, images):
    """Mean absolute error of the decoded clean features."""
    pixels = to_pixels(images)
    decoded = trainer.network(encode_features(trainer.encoder, pixels, 4))
    return float((decoded - pixels).abs().mean())


def test_only_the_decoder_is_trained(images, tmp_path):
    trainer = AutoencoderTrainer(CONFIG, tmp_path, resume=False)
    start = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    before = error(trainer, images[:4])
    trainer.train(lambda seen: repeat(images[:4]), ignored)
    assert error(trainer, images[:4]) < 0.8 * before
    assert all(not torch.equal(value, start[n]) for n, value in trainer.network.named_parameters())
    network = trainer.ema_network()
    published = EffLite0Encoder.pretrained().frozen().state_dict()
    assert typed_digest(network.encoder.state_dict()) == typed_digest(published)
    assert all(p.grad is None for p in network.encoder.parameters())
    assert torch.equal(network.decoder.conv_in.weight, trainer.ema.weights["conv_in.weight"])


def test_a_stopped_run_resumes_bit_for_bit(batches, tmp_path):
    config = replace(CONFIG, images=12)
    whole = AutoencoderTrainer(config, tmp_path / "whole", resume=False)
    whole.train(batches, ignored)
    first = AutoencoderTrainer(config, tmp_path / "parts", resume=False)
    stream = batches(0)
    for _ in range(2):
        first.step(next(stream))
    first.save()
    resumed = AutoencoderTrainer(config, tmp_path / "parts", resume=True)
    resumed.train(batches, ignored)
    expected = whole.ema_network().state_dict()
    assert typed_digest(resumed.ema_network().state_dict()) == typed_digest(expected)
    quiet = replace(config, representation=RepresentationConfig(encoder="efflite0", noise=0.0))
    with pytest.raises(ValueError, match=r"train\.representation\.noise: 0\.8 -> 0\.0"):
        AutoencoderTrainer(quiet, tmp_path / "parts", resume=True)


def save_dinov2(folder: Path, seed: int, **settings) -> None:
    torch.manual_seed(seed)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "image_size": 16}
    Dinov2Model(Dinov2Config(**shape, patch_size=4, **settings)).save_pretrained(folder)


def test_another_frozen_encoder_is_refused_on_resume(images, tmp_path):
    """The folder of the source keeps its name, and gets other weights or settings."""
    source, run = tmp_path / "model", tmp_path / "run"
    representation = RepresentationConfig(encoder="transformers", source=str(source))
    config = replace(CONFIG, images=8, representation=representation)
    save_dinov2(source, seed=0)
    trainer = AutoencoderTrainer(config, run, resume=False)
    trainer.step(images[:4])
    trainer.save()
    assert AutoencoderTrainer(config, run, resume=True).step_count == 1
    save_dinov2(source, seed=1)
    with pytest.raises(
        ValueError, match=r"encoder\.weights: '\w{64}' -> (.|\n)* means another model"
    ):
        AutoencoderTrainer(config, run, resume=True)
    save_dinov2(source, seed=0, layer_norm_eps=0.5)
    with pytest.raises(ValueError, match=r"encoder\.config\.layer_norm_eps: 1e-06 -> 0\.5\n"):
        AutoencoderTrainer(config, run, resume=True)
    state = read_state(run)
    del state.position["encoder"]["encoder.config.layer_norm_eps"]  # of another version
    write_state(run, RunState(tensors=state.tensors, position=state.position))
    assert AutoencoderTrainer(config, run, resume=True).step_count == 1
    save_dinov2(source, seed=1)
    del state.position["encoder"]  # a state of an older version
    write_state(run, RunState(tensors=state.tensors, position=state.position))
    assert AutoencoderTrainer(config, run, resume=True).step_count == 1


def test_noise_has_the_moments_of_a_half_normal_scale():
    """sigma = |tau s|: E sigma = tau sqrt(2 / pi), and the added noise has variance tau^2."""
    images, tau = 20_000, 0.8
    features = normal((images, 2, 1, 2), "sample", 0)
    noise, scales = normal((images, 2, 1, 2), "noise", 0), normal((images, 1, 1, 1), "noise", 1)
    noisy = add_noise(features, noise, scales, tau)
    sigma = ((noisy - features) / noise)[:, 0, 0, 0]
    torch.testing.assert_close(sigma, tau * scales.abs().flatten(), atol=1e-2, rtol=1e-2)
    # standard errors: tau sqrt(1 - 2 / pi) / sqrt(n) = 0.0034, and 0.011 tau^2
    assert float(sigma.mean()) == pytest.approx(tau * math.sqrt(2 / math.pi), abs=0.015)
    assert float((noisy - features).square().mean()) == pytest.approx(tau**2, rel=0.06)
    assert torch.equal(add_noise(features, noise, scales, 0.0), features)


def test_the_command_leaves_a_folder_for_recipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "AFFINE_IMAGES", 8)
    options = (
        "--train.images 4 --train.batch-size 4 --train.block-channels 4 8 8 --train.device cpu"
    )
    data = "--data.resolution 16 --data.max-pictures 8"
    encoder = "--train.representation.encoder efflite0"
    words = [*options.split(), *data.split(), *encoder.split()]
    assert verb.main(["train", "--out", str(tmp_path), *words]) == 0
    source = AutoencoderConfig(source=str(tmp_path))
    loaded = Autoencoder.load(source)
    published = EffLite0Encoder.pretrained().frozen().state_dict()
    assert typed_digest(loaded.network.encoder.state_dict()) == typed_digest(published)
    recipe = replace(get_recipe("openmoji/dit-entangled"), autoencoder=source)
    assert latent_shape_of(recipe) == (112, 16, 16) == loaded.latent_shape(64)

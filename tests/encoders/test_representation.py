# SPDX-License-Identifier: Apache-2.0
"""Representation autoencoders: features of frozen encoders as latents."""

import json
from itertools import islice

import pytest
import torch
import transformers
from torch.nn.functional import layer_norm

from pippin.config import ConfigError
from pippin.data.cache.build import build_cache
from pippin.data.config import CacheConfig, OpenMojiConfig
from pippin.data.sources.factory import build_source
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderTrainConfig
from pippin.encoders.normalisation import Affine, to_pixels
from pippin.encoders.representation.config import RepresentationConfig
from pippin.encoders.representation.network import (
    RepresentationNetwork,
    build_decoder,
    encode_features,
    pretrained_encoder,
)
from pippin.encoders.source import CONFIG_FILE, WEIGHTS_FILE
from pippin.evaluation.features.efflite0 import EffLite0
from pippin.system.tensors import load_tensors

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 4,
}
MODELS = {
    "dinov2": lambda: transformers.Dinov2Model(transformers.Dinov2Config(**SMALL)),
    "registers": lambda: transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(**SMALL, num_register_tokens=3)
    ),
    "siglip": lambda: transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**SMALL)),
    "mae": lambda: transformers.ViTMAEModel(transformers.ViTMAEConfig(**SMALL)),
}
LEADING = {"dinov2": 1, "registers": 4, "siglip": 0, "mae": 1}
SHAPE = {"block_channels": (4, 8, 8), "layers_per_block": 1, "norm_groups": 1}


def noise_images(count, side, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), generator=draws).to(torch.uint8)


def built(encoder):
    """Autoencoder with a random decoder."""
    torch.manual_seed(0)
    network = RepresentationNetwork(encoder, build_decoder(encoder.channels, **SHAPE), **SHAPE)
    affine = Affine.from_statistics(
        torch.linspace(-1, 1, encoder.channels), torch.linspace(0.5, 2, encoder.channels)
    )
    return Autoencoder(network, affine)


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    model = MODELS[request.param]().eval()
    norms = [m for name, m in model.named_modules() if name in ("layernorm", "post_layernorm")]
    with torch.no_grad():  # an affine that must not count
        norms[0].weight.uniform_(0.5, 2)
        norms[0].bias.uniform_(-1, 1)
    return request.param, model, norms[0]


@pytest.fixture
def folder(model, tmp_path):
    model[1].save_pretrained(tmp_path / "model")
    statistics = {"image_mean": [0.5, 0.25, 0.125], "image_std": [0.5, 1.0, 0.25]}
    (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps(statistics))
    return tmp_path / "model"


@pytest.mark.parametrize("content", ["[]", "{", '{"image_std": [1, 1, 1' + "0" * 400 + "]}"])
def test_damaged_preprocessing_is_refused_with_its_file(folder, content):
    (folder / "preprocessor_config.json").write_text(content)
    config = RepresentationConfig(encoder="transformers", source=str(folder))
    with pytest.raises(ValueError, match=r"preprocessor_config\.json.*save it again"):
        pretrained_encoder(config)


def test_tokens_of_transformers_are_the_library_s_without_the_last_affine(model, folder, tmp_path):
    name, library_model, norm = model
    encoder = pretrained_encoder(RepresentationConfig(encoder="transformers", source=str(folder)))
    assert (encoder.stride, encoder.channels) == (4, 16)
    pixels = to_pixels(noise_images(2, 32))
    mean, std = torch.tensor([0.5, 0.25, 0.125]), torch.tensor([0.5, 1.0, 0.25])
    normalised = ((pixels + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    settings = {}
    if name == "mae":  # the folder has the published ratio
        assert json.loads((folder / CONFIG_FILE).read_text())["mask_ratio"] == 0.75
        library_model.config.mask_ratio = 0.0
        settings = {"noise": torch.arange(64.0).expand(2, -1)}
    with torch.no_grad():
        tokens = library_model(normalised, **settings).last_hidden_state[:, LEADING[name] :]
    expected = ((tokens - norm.bias) / norm.weight).transpose(1, 2).unflatten(2, (8, 8))
    features = encode_features(encoder, pixels, factor=4)
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)
    assert encode_features(encoder, pixels, factor=2).shape == (2, 16, 16, 16)  # positions too
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encode_features(encoder, pixels, factor=4), features)

    autoencoder = built(encoder)
    autoencoder.save(tmp_path / "saved")
    loaded = Autoencoder.from_folder(tmp_path / "saved")  # without the model's folder
    assert loaded.fingerprint == autoencoder.fingerprint
    moments = loaded.encode(pixels)
    assert torch.equal(moments.mean, autoencoder.encode(pixels).mean)
    assert moments.std is None and loaded.latent_shape(32) == (16, 8, 8)
    latents = loaded.normalise(moments.mean)
    assert torch.equal(loaded.decode(latents), autoencoder.decode(latents))


@pytest.fixture(scope="module")
def efflite0():
    return pretrained_encoder(RepresentationConfig(encoder="efflite0"))


def test_features_of_efflite0_are_its_normalised_stage(efflite0):
    images = noise_images(2, 64)
    (stage,) = islice(EffLite0(64).stages(images), 3, 4)
    expected = layer_norm(stage.permute(0, 2, 3, 1), (112,)).permute(0, 3, 1, 2)
    features = encode_features(efflite0, to_pixels(images), factor=16)
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)
    assert features.mean(1).abs().max() < 1e-5
    torch.testing.assert_close(features.var(1, unbiased=False), torch.ones(2, 4, 4))


def test_an_encoder_stays_frozen_in_training_mode(efflite0):
    network = built(efflite0).network.train()
    assert network.decoder.training and not any(m.training for m in network.encoder.modules())
    assert not any(p.requires_grad for p in network.encoder.parameters())


def test_latents_are_deterministic_and_of_any_size(efflite0, tmp_path):
    autoencoder = built(efflite0)
    images = noise_images(3, 16)
    latents = autoencoder.encode(to_pixels(images)).mean
    assert torch.equal(latents, autoencoder.encode(to_pixels(images)).mean)
    alone = autoencoder.encode(to_pixels(images[1:2])).mean
    torch.testing.assert_close(latents[1:2], alone, atol=1e-4, rtol=1e-4)
    assert autoencoder.latent_shape(8, 16) == (112, 2, 4)
    assert autoencoder.encode(to_pixels(images[:, :, :8])).mean.shape == (3, 112, 2, 4)
    assert autoencoder.decode(latents[:, :, :2]).shape == (3, 3, 8, 16)

    source = build_source(OpenMojiConfig(resolution=16, max_pictures=2, views=1), "train")
    cache = build_cache(source, autoencoder, CacheConfig(folder=str(tmp_path)))
    moments = cache.fetch(torch.tensor([1]), torch.tensor([0])).moments
    assert moments.mean.shape == (1, 112, 4, 4) and moments.std is None


def described(**changes):
    """Settings of a frozen DINOv2."""
    config = {"model_type": "dinov2", **SMALL, **changes}
    return {"kind": "transformers", "mean": [0, 0, 0], "std": [1, 1, 1], "config": config}


def test_files_that_do_not_belong_together_are_refused(efflite0, tmp_path):
    autoencoder = built(efflite0)
    autoencoder.save(tmp_path)
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    stored = load_tensors(tmp_path / WEIGHTS_FILE)
    own = efflite0.state_dict()
    assert all(torch.equal(stored[f"encoder.{name}"], own[name].float()) for name in own)
    for change, message in (
        ({"block_out_channels": [4, 4, 8]}, r"do not match: missing, unknown or of another shape"),
        ({"encoder": {"kind": "other"}}, r"frozen encoders of kind .* is 'other'"),
        ({"encoder": None}, "damaged"),
        ({"encoder": {"kind": "transformers"}}, r"damaged \('config'\)"),
        ({"encoder": described(hidden_size="x")}, r"describes no dinov2 .*hidden_size.*save the"),
        ({"encoder": described(hidden_act="x")}, r"describes no dinov2 \(KeyError: 'x'\)"),
        (
            {"encoder": described() | {"std": [1, 0, 1]}},
            r"three numbers each, .* got .*\[1, 0, 1\]",
        ),
        ({"encoder": described() | {"mean": 1}}, r"three numbers each, .* got 1 and"),
        ({"latent_channels": 7}, r"names 7 latent_channels, and its encoder has 112"),
        ({"norm_num_groups": 3}, r"multiples of norm_num_groups.* got .*'norm_groups': 3"),
        ({"layers_per_block": "2"}, "damaged"),
        ({"layers_per_block": 1, "norm_num_groups": 2}, "do not belong together"),
    ):
        (tmp_path / CONFIG_FILE).write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=message) as caught:
            Autoencoder.from_folder(tmp_path)
        assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": "transformers"}, r"source names the model .* got encoder transformers, sour"),
        ({"encoder": "efflite0", "source": "x"}, r"and of no other; got encoder efflite0"),
        ({"noise": 0.1}, r"noise has no effect while train\.representation\.encoder is none"),
        ({"encoder": "efflite0", "noise": -1.0}, r"representation\.noise must be 0 or more"),
    ],
)
def test_settings_without_effect_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        RepresentationConfig(**settings)


@pytest.mark.parametrize("name", ["kl_weight", "scale_weight", "latent_channels"])
def test_settings_of_a_trained_encoder_are_refused(name):
    representation = RepresentationConfig(encoder="efflite0")
    with pytest.raises(ConfigError, match=rf"train\.{name} has no effect .* got 1"):
        AutoencoderTrainConfig(representation=representation, **{name: 1})


@pytest.mark.parametrize(
    ("model_type", "message"),
    [
        (
            "bert",
            r"is a 'bert' model; give a model of type dinov2, dino.* such as facebook/dinov2",
        ),
        ("siglip", r"SiglipVisionModel\.from_pretrained\(NAME\)\.save_pretrained\(FOLDER\), copy"),
        (["dinov2"], r"is a \['dinov2'\] model"),
    ],
)
def test_another_model_is_refused_by_its_type(tmp_path, model_type, message):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    config = RepresentationConfig(encoder="transformers", source=str(tmp_path))
    with pytest.raises(ValueError, match=message):
        pretrained_encoder(config)

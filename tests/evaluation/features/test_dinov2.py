# SPDX-License-Identifier: Apache-2.0
"""DINOv2 of random weights from a local folder."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.distances import compare
from pippin.evaluation.features.dinov2 import Dinov2
from pippin.evaluation.features.extraction import build_features, extract
from pippin.training.repa.config import RepaConfig
from pippin.training.repa.features import build_encoder
from pippin.training.repa.projector import feature_width, planned_width


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("dinov2")
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.Dinov2Model(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def extractor(folder):
    return build_features(EvaluationConfig(features="dinov2", dinov2=str(folder)))


def test_features_are_the_class_token_of_normalised_pixels(folder, extractor, openmoji_images):
    from torchvision.transforms.v2.functional import normalize, resize

    model = transformers.Dinov2Model.from_pretrained(folder)
    assert isinstance(extractor, Dinov2) and extractor.dim == 24 and extractor.input_size == 224
    pixels = resize(openmoji_images[:3].float(), [224, 224], interpolation=3, antialias=True)
    pixels = normalize(pixels.clamp(0, 255) / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = model(pixels).pooler_output
    torch.testing.assert_close(extractor(openmoji_images[:3]), expected, rtol=1e-4, atol=1e-5)
    assert expected.std(dim=0).mean() > 1e-3


def test_patches_are_the_other_tokens_on_their_grid(folder, extractor, openmoji_images):
    from torchvision.transforms.v2.functional import normalize, resize

    model = transformers.Dinov2Model.from_pretrained(folder)
    pixels = resize(openmoji_images[:2].float(), [224, 224], interpolation=3, antialias=True)
    pixels = normalize(pixels.clamp(0, 255) / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        tokens = model(pixels).last_hidden_state
    patches = extractor.patches(openmoji_images[:2])
    assert patches.shape == (2, 24, 16, 16)
    for row, column in [(0, 0), (3, 5), (15, 15)]:
        expected = tokens[:, 1 + 16 * row + column]
        torch.testing.assert_close(patches[:, :, row, column], expected, rtol=1e-4, atol=1e-5)
    encoder = build_encoder(RepaConfig(encoder="dinov2", source=str(folder)), "cpu")
    assert torch.equal(encoder.encode(openmoji_images[:2], (16, 16)), patches)
    assert encoder.encode(openmoji_images[:2], (4, 8)).shape == (2, 24, 4, 8)
    assert encoder.fingerprint != extractor.fingerprint
    config = RepaConfig(encoder="dinov2", source=str(folder))
    assert feature_width(config) == planned_width(config) == 24
    hub = RepaConfig(encoder="dinov2", source="facebook/dinov2-large")
    assert planned_width(hub) == 1024


def test_measures_carry_its_name_and_files(folder, extractor, openmoji_images):
    generated, reference = (extract(extractor, [openmoji_images[a : a + 12]]) for a in (0, 12))
    config = EvaluationConfig(kid_subset_size=6, kid_subsets=2, neighbours=2)
    result = {measure.name: measure for measure in compare(generated, reference, config)}
    assert {"FD-dinov2", "KID-dinov2"} <= set(result) and not {"FID", "IS"} & set(result)
    assert result["FD-dinov2"].protocol["features_fingerprint"] == extractor.fingerprint


def test_another_model_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"the folder has no config.json"):
        Dinov2(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ValueError, match=r"is a 'vit' model; give a folder with a model of type"):
        Dinov2(str(tmp_path))
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ValueError, match=r"the DINOv2 in .* cannot be loaded"):
        Dinov2(str(tmp_path))


def test_weights_that_lack_tensors_are_refused_by_name(folder, tmp_path):
    half = Path(shutil.copytree(folder, tmp_path / "half"))
    weights = load_file(half / "model.safetensors")
    del weights["layernorm.bias"]
    save_file(weights, half / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"the DINOv2 in .* lack 1 tensors \(layernorm\.bias\)"):
        Dinov2(str(half))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {"layernorm.weight": w * torch.nan}, r"layernorm\.weight \(24 NaN of 24"),
        (lambda w: {"layernorm.weight": w.to(torch.int8)}, "quantised as int8: layernorm"),
        (lambda w: {"layernorm.weight_scale": torch.ones(())}, "with separate scales: layern"),
    ],
)
def test_weights_that_cannot_be_read_as_they_are(folder, tmp_path, change, message):
    copied = Path(shutil.copytree(folder, tmp_path / "copied"))
    weights = load_file(copied / "model.safetensors")
    weights |= change(weights["layernorm.weight"])
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=message):
        Dinov2(str(copied))

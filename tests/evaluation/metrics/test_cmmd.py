# SPDX-License-Identifier: Apache-2.0
"""CMMD, and the image embeddings of a CLIP as features."""

import pytest
import torch
import transformers
from clip_checkpoint import save_clip
from torch.nn.functional import normalize

from pippin.config import ConfigError
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.distances import evaluate
from pippin.evaluation.features.extraction import build_features, extract
from pippin.evaluation.metric_registry import find_metric
from pippin.evaluation.metrics.cmmd import clip_discrepancy
from pippin.evaluation.metrics.declared.distances import CMMD


def vectors(count, shift=0.0, dim=12):
    draws = torch.Generator().manual_seed(count)
    return normalize(torch.randn(count, dim, generator=draws) + shift, dim=-1)


def by_loops(x, y):
    """The three means over all pairs, pair by pair."""

    def mean(a, b):
        pairs = [(p - q).square().sum() for p in a.double() for q in b.double()]
        return torch.exp(-torch.stack(pairs) / 200).mean()

    return float(1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y)))


def test_it_is_the_mean_over_all_pairs_and_zero_for_equal_sets():
    x, y = vectors(7), vectors(9, shift=0.4)
    estimate = clip_discrepancy(x, y)
    assert estimate.value == pytest.approx(by_loops(x, y), rel=1e-9)
    expected = [by_loops(x[torch.arange(7) != row], y) for row in range(7)]
    torch.testing.assert_close(estimate.leave_one_out, torch.tensor(expected).double())
    assert clip_discrepancy(x, x).value == pytest.approx(0, abs=1e-9)
    assert estimate.value > 1


def test_two_points_in_closed_form():
    x = torch.tensor([[1.0, 0.0]]).expand(3, 2)
    y = torch.tensor([[0.0, 1.0]])
    expected = 1000 * (2 - 2 * torch.exp(torch.tensor(-2 / 200, dtype=torch.float64)))
    assert clip_discrepancy(x, y).value == pytest.approx(float(expected), rel=1e-9)
    with pytest.raises(ValueError, match=r"at least 3 generated images .* got 2 and 1"):
        clip_discrepancy(x[:2], y)


def test_equal_distributions_leave_the_bias_of_pairs_of_an_image_with_itself():
    n = 400
    x, y = vectors(n, dim=1000), vectors(n + 1, dim=1000)
    bias = 1000 * (1 - torch.exp(torch.tensor(-2 / 200))) / n * 2  # E |x - x'|^2 = 2
    assert clip_discrepancy(x, y).value == pytest.approx(float(bias), rel=0.15)  # 3 sd


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("clip"))


def test_features_of_a_clip_are_its_embeddings_and_name_the_measures(folder, openmoji_images):
    config = EvaluationConfig(
        features="clip", clip=str(folder), kid_subset_size=6, kid_subsets=2, neighbours=2
    )
    extractor = build_features(config)
    model = transformers.CLIPModel.from_pretrained(folder)
    processor = transformers.CLIPImageProcessor.from_pretrained(folder)
    images = openmoji_images[:12]
    with torch.no_grad():
        output = model.get_image_features(**processor(images, return_tensors="pt"))
    embeddings = output if isinstance(output, torch.Tensor) else output.pooler_output
    torch.testing.assert_close(extractor(images), normalize(embeddings, dim=-1))
    assert extractor.dim == embeddings.shape[1]

    results = evaluate([images], [openmoji_images[12:24]], config, extractor)
    found = {result.name: result for result in results}
    assert {"CMMD-clip", "KID-clip", "FD-clip", "coverage"} <= set(found)
    reference = extract(extractor, [openmoji_images[12:24]]).values
    expected = by_loops(extractor(images), reference)
    cmmd = found["CMMD-clip"]
    assert cmmd.value == pytest.approx(expected, rel=1e-5) and cmmd.low >= 0
    assert cmmd.protocol["features_fingerprint"] == extractor.fingerprint
    assert find_metric("CMMD-clip") == CMMD(features="clip")
    assert find_metric("CMMD-efflite0").kind is not CMMD


def test_features_of_clip_need_a_clip_and_a_clip_alone_does_not_change_them(folder):
    with pytest.raises(ConfigError, match=r"features clip and evaluation\.clip, a folder"):
        EvaluationConfig(features="clip")
    assert EvaluationConfig(clip=str(folder)).features == "efflite0"

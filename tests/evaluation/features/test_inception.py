# SPDX-License-Identifier: Apache-2.0
"""FID, sFID, IS, KID and precision/recall with Inception of random weights: against torch-fidelity
from images to numbers, and against the published graph written out."""

import re
import sys
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch_fidelity
from random_inception import blobs, write_shapes
from safetensors.torch import load_file, save_file
from torch.nn.functional import (
    affine_grid,
    avg_pool2d,
    batch_norm,
    conv2d,
    grid_sample,
    max_pool2d,
)

from pippin.config import ConfigError, fingerprint, protocol
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.distances import compare
from pippin.evaluation.features import inception as module
from pippin.evaluation.features.extraction import build_features, extract
from pippin.evaluation.features.inception import Inception
from pippin.evaluation.metrics import frechet
from pippin.system.installation import pip_command

NUM_IMAGES = 9
"""Images of each side; each takes a quarter of a second, twice."""
K = 1
"""Number of neighbours; 3, as papers have it, would cover all of so few images."""
SPLITS = 3
"""Splits of the Inception score; ten, as papers have it, would hold one image each."""


def compared(features):
    """Measures of the generated and the reference features by name; one subset of all for KID."""
    size = len(features[0])
    config = EvaluationConfig(kid_subset_size=size, kid_subsets=1, neighbours=K)
    return {measure.name: measure for measure in compare(*features, config)}


def images_of_both_sides():
    """Generated and reference images: two kinds of smooth noise."""
    return blobs(NUM_IMAGES, 3, 3), blobs(NUM_IMAGES, 5, 5)


@pytest.fixture
def quick(quick_inception):
    """A quick network in Inception's place."""
    return Inception(quick_inception)


@pytest.fixture
def features(quick):
    """Its features of generated and of reference images."""
    return [extract(quick, [images]) for images in images_of_both_sides()]


def by_torch_fidelity(path, generated, reference):
    """Metrics of torch-fidelity, end to end, from the same images and file."""
    with patch("torch_fidelity.metric_fid.np.linalg.eigvals", eigenvalues_of_low_rank):
        return torch_fidelity.calculate_metrics(
            input1=Listed(generated),
            input2=Listed(reference),
            **dict.fromkeys(("fid", "isc", "kid", "prc"), True),
            feature_extractor="inception-v3-compat",
            feature_extractor_weights_path=str(path),
            isc_splits=SPLITS,
            kid_subsets=1,
            kid_subset_size=len(reference),
            prc_neighborhood=K,
            batch_size=5,
            cuda=False,
            cache=False,
            verbose=False,
            save_cpu_ram=True,  # no workers
        )


_eigenvalues = np.linalg.eigvals


def eigenvalues_of_low_rank(matrix, rank=40):
    """Eigenvalues of a matrix of low rank, without its zeros, in place of NumPy's, which take many
    seconds for 2048 features: A = Q Q' A with orthonormal columns Q has those of Q' A Q."""
    probes = np.random.default_rng(0).normal(size=(len(matrix), rank))
    basis, _ = np.linalg.qr(matrix @ probes)
    rows = basis.T @ matrix
    np.testing.assert_allclose(basis @ rows, matrix, rtol=0, atol=1e-9 * np.abs(matrix).max())
    return _eigenvalues(rows @ basis)


class Listed(torch.utils.data.Dataset):
    """Images one by one."""

    def __init__(self, images):
        self._images = images

    def __len__(self):
        return len(self._images)

    def __getitem__(self, index):
        return self._images[index]


def test_the_measures_are_those_of_torch_fidelity(inception, inception_file, monkeypatch):
    """Agreement to 1e-3, with no metric at an end of its scale, so that the comparison is
    meaningful. Both sides have the same number of images, since torch-fidelity leaves out of KID's
    one subset those of the larger side at random. It has no sFID."""
    monkeypatch.setattr("pippin.evaluation.distances.SPLITS", SPLITS)
    images = images_of_both_sides()
    features = [extract(inception, side.split(5)) for side in images]
    measures = compared([replace(side, spatial=None) for side in features])
    theirs = by_torch_fidelity(inception_file, *images)
    extractor = inception.name
    pairs = {
        f"FD-{extractor}": "frechet_inception_distance",
        f"IS-{extractor}": "inception_score_mean",
        f"KID-{extractor}": "kernel_inception_distance_mean",
        f"KID-{extractor} subsets": "kernel_inception_distance_mean",
        "precision": "precision",
        "recall": "recall",
    }
    result = {own_name: measures[own_name].value for own_name in pairs}
    expected = {own_name: theirs[name] for own_name, name in pairs.items()}
    assert result == pytest.approx(expected, rel=1e-3)
    assert expected[f"FD-{extractor}"] > 10 and expected[f"IS-{extractor}"] > 1.5
    assert expected[f"KID-{extractor}"] > 0.1
    assert 0.1 < expected["precision"] < 0.96 and 0.1 < expected["recall"] < 0.96


def test_other_weights_earn_no_published_name(features, quick_inception, monkeypatch):
    measures = compared(features)
    named = [
        measure
        for measure in measures
        if measure not in ("precision", "recall", "density", "coverage")
    ]
    assert len(named) == 5 and all("inception-" in measure for measure in named)
    assert not {"FID", "sFID", "IS"} & set(measures)
    monkeypatch.setattr(module, "PUBLISHED", module.file_digest(quick_inception))
    assert Inception(quick_inception).name == "inception"


def test_with_the_published_weights_the_names_are_those_of_papers(features):
    names = set(compared([replace(side, extractor="inception") for side in features]))
    expected = {"FID", "sFID", "IS", "KID-inception", "KID-inception subsets"}
    assert expected | {"precision", "recall", "density", "coverage"} == names


def test_the_protocol_has_the_file(features, quick):
    generated, reference = features
    measures = compared(features)
    for measure in measures.values():
        assert measure.protocol["features_fingerprint"] == quick.fingerprint
        assert measure.protocol["input_size"] == 299 and measure.n == len(generated)
    score = measures[f"IS-{quick.name}"]
    assert "reference_hash" not in score.protocol
    assert score.protocol["is_splits"] == len(generated) < frechet.SPLITS == 10
    assert measures[f"sFD-{quick.name}"].protocol["reference_hash"] == reference.image_hash


# The graph of 2015-12-05 up to mixed_6/conv by its own names, after OpenAI's evaluator for
# consistency models, which holds itself to the graph: it resizes by another method, too.
TOWERS = {
    "A": {
        "conv": "branch1x1",
        "tower": ("branch5x5_1", "branch5x5_2"),
        "tower_1": ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
        "tower_2": ("branch_pool",),
    },
    "C": {
        "conv": "branch1x1",
        "tower": ("branch7x7_1", "branch7x7_2", "branch7x7_3"),
        "tower_1": tuple(f"branch7x7dbl_{number}" for number in range(1, 6)),
        "tower_2": ("branch_pool",),
    },
}
MIXED = {"mixed": "5b", "mixed_1": "5c", "mixed_2": "5d", "mixed_4": "6b", "mixed_5": "6c"}


def layer(tensors, name, x, stride=1, padding="same"):
    weight = tensors[f"{name}.conv.weight"]
    if padding == "same":
        padding = [side // 2 for side in weight.shape[2:]]
    x = conv2d(x, weight, stride=stride, padding=padding)
    own = (tensors[f"{name}.bn.{kind}"] for kind in ("running_mean", "running_var"))
    scale, shift = (tensors[f"{name}.bn.{kind}"] for kind in ("weight", "bias"))
    return batch_norm(x, *own, weight=scale, bias=shift, eps=1e-3).relu()


def mixed(tensors, kind, block, x):
    pooled = avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    ends = [layer(tensors, f"{block}.{TOWERS[kind]['conv']}", x)]
    for tower in ("tower", "tower_1", "tower_2"):
        state = pooled if tower == "tower_2" else x
        for name in TOWERS[kind][tower]:
            state = layer(tensors, f"{block}.{name}", state)
        ends.append(state)
    return torch.cat(ends, dim=1)


def resized(images):
    """TensorFlow 1's grid: pixel i of 299 is at i * side / 299."""
    count, channels, height, width = images.shape
    theta = torch.eye(2, 3)
    theta[0, 2] = 1 / width - 1 / 299
    theta[1, 2] = 1 / height - 1 / 299
    grid = affine_grid(theta.repeat(count, 1, 1), [count, channels, 299, 299], align_corners=False)
    x = grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return (x - 128) / 128


def spatial_by_graph(tensors, images):
    x = layer(tensors, "Conv2d_1a_3x3", resized(images), stride=2, padding=0)
    x = layer(tensors, "Conv2d_2a_3x3", x, padding=0)
    x = max_pool2d(layer(tensors, "Conv2d_2b_3x3", x), 3, stride=2)
    x = layer(tensors, "Conv2d_3b_1x1", x)
    x = max_pool2d(layer(tensors, "Conv2d_4a_3x3", x, padding=0), 3, stride=2)
    for name, block in MIXED.items():
        if name == "mixed_4":  # after mixed_3, which halves
            halved = layer(tensors, "Mixed_6a.branch3x3", x, stride=2, padding=0)
            state = layer(tensors, "Mixed_6a.branch3x3dbl_1", x)
            state = layer(tensors, "Mixed_6a.branch3x3dbl_2", state)
            state = layer(tensors, "Mixed_6a.branch3x3dbl_3", state, stride=2, padding=0)
            x = torch.cat([halved, state, max_pool2d(x, 3, stride=2)], dim=1)
        x = mixed(tensors, "A" if block[0] == "5" else "C", f"Mixed_{block}", x)
    conv = layer(tensors, "Mixed_6d.branch1x1", x)  # mixed_6/conv
    assert conv.shape[1:] == (192, 17, 17)
    return conv[:, :7].permute(0, 2, 3, 1).reshape(-1, 2023)


@torch.no_grad()
def test_spatial_features_are_those_of_the_published_graph(inception, inception_file):
    """sFID: torch-fidelity has none. Within 1e-3 of their scale, resized by another method."""
    images = torch.cat([blobs(2, 7, 5), blobs(1, 8, 9)])
    tensors = torch.load(inception_file, weights_only=True)
    result = inception.outputs(images)
    expected = spatial_by_graph(tensors, images)
    assert result.pooled.shape == (3, 2048) and result.logits.shape == (3, 1008)
    assert expected.std(dim=0).mean() > 0.1  # images differ
    torch.testing.assert_close(
        result.spatial, expected, rtol=1e-3, atol=1e-3 * float(expected.std())
    )


def test_images_of_any_size_are_taken_and_batches_do_not_matter(inception):
    images = blobs(2, 3, 4)
    whole = extract(inception, [images])
    parts = extract(inception, [images[:1], images[1:]])
    torch.testing.assert_close(whole.values, parts.values, rtol=1e-4, atol=1e-4)
    assert whole.subset(torch.tensor([1]), "x").logits.shape == (1, 1008)
    assert inception(blobs(1, 0, 4, side=20)).shape == (1, 2048)


def test_built_from_the_configuration_or_from_safetensors(inception, inception_file, tmp_path):
    config = EvaluationConfig(features="inception", inception=str(inception_file))
    assert build_features(config).fingerprint == inception.fingerprint
    copy = tmp_path / "inception.safetensors"
    save_file(torch.load(inception_file, weights_only=True), copy)
    again = Inception(copy)
    assert again.name != inception.name and len(load_file(copy)) == 472
    torch.testing.assert_close(again(blobs(1, 0, 4)), inception(blobs(1, 0, 4)))


def test_what_is_no_such_inception_is_refused_with_what_to_give(tmp_path):
    with pytest.raises(ConfigError, match=r"no file .*absent.pth; give weights-inception-2015"):
        Inception(tmp_path / "absent.pth")
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="holds no readable weights"):
        Inception(broken)
    code = tmp_path / "code.pth"
    torch.save({"fc.weight": Listed(None)}, code)
    with pytest.raises(ConfigError, match="holds no readable weights"):
        Inception(code)
    other = tmp_path / "torchvision.safetensors"
    save_file({"fc.weight": torch.zeros(1000, 2048)}, other)
    with pytest.raises(ConfigError, match="torchvision's is another network"):
        Inception(other)
    save_file({"fc.weight": torch.full((2, 2), torch.inf)}, other)
    with pytest.raises(ConfigError, match=r"fc\.weight \(4 infinite of 4 numbers\)"):
        Inception(other)
    with pytest.raises(ConfigError, match=r"half.pth: .*Missing key.*give weights-inception"):
        Inception(write_shapes(tmp_path / "half.pth"))


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ConfigError, match=re.escape(pip_command("fid"))):
        Inception(write_shapes(tmp_path / "file.pth"))


def test_where_the_file_lies_is_no_part_of_a_recipes_protocol():
    """Its hash is part of each measure's; recipes that name no file are what they were."""
    assert not {"inception", "dinov2"} & set(protocol(EvaluationConfig()))
    measure, two = (EvaluationConfig(features="inception", inception=name) for name in "ab")
    assert fingerprint(measure) == fingerprint(two) != fingerprint(EvaluationConfig())


def test_settings_that_do_not_belong_together_are_refused():
    with pytest.raises(ConfigError, match=r"features inception and evaluation.inception, a file"):
        EvaluationConfig(features="inception")
    with pytest.raises(ConfigError, match=r"belong together; got features efflite0 and inception"):
        EvaluationConfig(inception="weights.pth")

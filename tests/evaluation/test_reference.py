# SPDX-License-Identifier: Apache-2.0
"""Stored statistics give the same metrics as features, and invalid files are refused."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from random_inception import blobs

from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.distances import compare, compare_statistics
from pippin.evaluation.features.extraction import Features, extract
from pippin.evaluation.features.inception import Inception
from pippin.evaluation.reference import (
    load_statistics,
    save_statistics,
    statistics_of,
    stream_statistics,
)


def features(seed, count=30, extractor="inception", **more):
    draws = torch.Generator().manual_seed(seed)
    values = torch.rand(count, 16, generator=draws)
    about = {"extractor": extractor, "fingerprint": "0123456789abcdef", "input_size": 299}
    parts = {"spatial": values[:, :9] ** 2, "logits": 5 * values}
    return Features(values=values, image_hash=f"images {seed}", **about, **(parts | more))


@pytest.fixture
def kept(tmp_path):
    path = tmp_path / "kept.npz"
    save_statistics(statistics_of(features(1)), path, "as they are")
    return path


def test_stored_statistics_give_the_same_distances_and_say_what_they_are_of(kept):
    direct = {
        measure.name: measure for measure in compare(features(0), features(1), EvaluationConfig())
    }
    stored = {
        measure.name: measure for measure in compare_statistics(features(0), load_statistics(kept))
    }
    assert list(stored) == ["FID", "sFID", "IS"]
    for name, measure in stored.items():
        assert measure.value == pytest.approx(direct[name].value, rel=1e-12)
    own = stored["FID"].protocol
    assert own["reference_samples"] == 30 and own["reference_hash"] == "images 1"
    assert own["reference_features"] == "stated"
    with np.load(kept, allow_pickle=False) as file:
        assert file["mu"].dtype == file["sigma"].dtype == np.float64
        assert str(file["features"]) == "inception" and int(file["images"]) == 30
        assert str(file["preparation"]) == "as they are"


def test_statistics_of_a_stream_are_those_of_all_features_at_once(quick_inception):
    inception, images = Inception(quick_inception), blobs(20, 3, 3)
    whole = statistics_of(extract(inception, [images]))
    result = stream_statistics(inception, images.split(7))
    assert (result.count, result.image_hash) == (20, whole.image_hash)
    assert (result.extractor, result.fingerprint) == (inception.name, inception.fingerprint)
    for measure, other in ((result.pooled, whole.pooled), (result.spatial, whole.spatial)):
        for name in ("mean", "covariance"):
            expected = getattr(other, name)
            bound = 1e-5 * float(expected.abs().max())  # the network rounds by batch in fp32
            torch.testing.assert_close(getattr(measure, name), expected, rtol=0, atol=bound)
    with pytest.raises(ValueError, match="no images to extract features of"):
        stream_statistics(inception, [])


class OnePixel:
    """Extractor that counts its features that are still alive."""

    name, dim, input_size, fingerprint = "pixel", 3, 1, "0" * 16

    def __init__(self):
        self.alive, self.most = weakref.WeakSet(), 0

    def __call__(self, images):
        result = images[:, :, 0, 0].float()
        self.alive.add(result)
        self.most = max(self.most, len(self.alive))
        return result


def test_statistics_of_a_stream_keep_no_features():
    network = OnePixel()
    batches = (torch.full((2, 3, 4, 4), shade, dtype=torch.uint8) for shade in range(50))
    assert stream_statistics(network, batches).count == 100
    assert network.most <= 2  # those of the last and of the current batch


def test_a_file_of_adms_format_is_of_the_published_inception(tmp_path):
    values = features(1).values.double().numpy()
    arrays = {"mu": values.mean(0), "sigma": np.cov(values, rowvar=False)}
    np.savez(tmp_path / "adm.npz", **arrays)
    result = load_statistics(tmp_path / "adm.npz")
    fid, score = compare_statistics(features(0), result)
    direct = compare(features(0), features(1), EvaluationConfig())
    expected = next(measure.value for measure in direct if measure.name == "FID")
    assert (fid.name, score.name) == ("FID", "IS")
    assert fid.value == pytest.approx(expected, rel=1e-9)
    assert fid.protocol["reference_features"] == "by the file's format"
    assert len(fid.protocol["reference_hash"]) == 16 and fid.protocol["reference_samples"] is None
    other = replace(features(0), extractor="inception-ab12cd34")
    with pytest.raises(ValueError, match=r"does not say.*--features inception --inception PATH"):
        compare_statistics(other, result)


def test_statistics_of_other_features_are_refused(kept):
    result = load_statistics(kept)
    other = replace(features(0), fingerprint="fedcba9876543210")
    with pytest.raises(ValueError, match=r"inception \(0123.*\) cannot be compared .* \(fedc"):
        compare_statistics(other, result)
    narrow = replace(features(0), values=features(0).values[:, :12])
    with pytest.raises(ValueError, match="statistics are of 16 features, and inception has 12"):
        compare_statistics(narrow, result)
    with pytest.raises(ValueError, match="two samples or more, got 1"):
        compare_statistics(features(0, count=1), result)


SQUARE = np.eye(3)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"sigma": SQUARE}, r"holds no statistics but sigma; needed are mu and sigma"),
        ({"mu": np.zeros(4), "sigma": SQUARE}, r"shapes \(d\) and \(d, d\); they have \(4,\)"),
        ({"mu": np.float64(1), "sigma": SQUARE}, r"shapes \(d\) and \(d, d\)"),
        ({"mu": np.zeros(3), "sigma": SQUARE * np.nan}, "must be finite real numbers"),
        ({"mu": np.zeros(3), "sigma": np.eye(3, dtype=object)}, "pickled objects are never read"),
        ({"mu": np.array(["a", "b", "c"]), "sigma": SQUARE}, "must be finite real numbers"),
        ({"mu": np.zeros(3), "sigma": SQUARE, "mu_s": np.zeros(3)}, "no array 'sigma_s'"),
    ],
)
def test_what_is_no_statistics_is_refused_by_name(tmp_path, arrays, message):
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_statistics(tmp_path / "wrong.npz")


def test_a_file_that_is_no_npz_is_refused(tmp_path, kept):
    with pytest.raises(ValueError, match=r"there is no file .*absent.npz"):
        load_statistics(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("mu")
    with pytest.raises(ValueError, match=r"text.npz is no .npz file, or a damaged one"):
        load_statistics(tmp_path / "text.npz")
    content = bytearray(kept.read_bytes())
    content[200:260] = b"x" * 60  # inside of mu
    kept.write_bytes(content)
    with pytest.raises(ValueError, match=r"'mu' of .*kept.npz cannot be read"):
        load_statistics(kept)


def test_a_flipped_bit_anywhere_in_kept_statistics_is_found(kept):
    """The archive has a checksum of each array, including metadata, which reading verifies."""
    good, expected = kept.read_bytes(), load_statistics(kept)
    for part in ("mu", "sigma", "images", "input_size", "features_fingerprint", "format"):
        start = good.index(f"{part}.npy".encode())
        content = bytearray(good)
        content[start + 150] ^= 1  # in the array, behind its header of 128 bytes
        kept.write_bytes(content)
        try:
            result = load_statistics(kept)
        except ValueError:
            continue
        assert (result.count, result.fingerprint) == (expected.count, expected.fingerprint)
        assert torch.equal(result.pooled.mean, expected.pooled.mean)

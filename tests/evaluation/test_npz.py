# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from pippin.evaluation.npz import npz_images


def images(count=7):
    draws = np.random.default_rng(0)
    return draws.integers(0, 256, (count, 5, 4, 3), np.uint8)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_come_in_batches_in_order(tmp_path, save):
    save(tmp_path / "images.npz", images(), labels=np.arange(7))
    batches = list(npz_images(tmp_path / "images.npz", 3))
    assert [tuple(batch.shape) for batch in batches] == [(3, 3, 5, 4), (3, 3, 5, 4), (1, 3, 5, 4)]
    assert torch.equal(torch.cat(batches), torch.from_numpy(images()).permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (images().astype(np.float32), r"must be uint8 images .* it is float32 \(7, 5, 4, 3\)"),
        (images()[..., 0], r"must be uint8 images .* it is uint8 \(7, 5, 4\)"),
        (images()[:0], r"it is uint8 \(0, 5, 4, 3\)"),
        (np.asfortranarray(images()), "row by row"),
        (np.array([{"a": 1}], dtype=object), "it is object"),
    ],
)
def test_other_arrays_are_refused(tmp_path, array, message):
    np.savez(tmp_path / "images.npz", array)
    with pytest.raises(ValueError, match=message):
        next(npz_images(tmp_path / "images.npz", 3))


def test_files_without_images_and_damaged_ones_are_refused(tmp_path):
    path = tmp_path / "images.npz"
    np.savez(path, labels=np.arange(3))
    with pytest.raises(ValueError, match=r"holds no images; needed is arr_0, uint8 \(count"):
        next(npz_images(path, 3))
    for save in (np.savez, np.savez_compressed):
        save(path, images(300))
        content = bytearray(path.read_bytes())
        content[9000:9010] = b"x" * 10
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"arr_0 of .* is damaged"):
            list(npz_images(path, 3))


def test_one_flipped_bit_is_found_wherever_it_is(tmp_path):
    path = tmp_path / "images.npz"
    np.savez(path, arr_0=images(3))
    good = path.read_bytes()
    whole = torch.cat(list(npz_images(path, 2)))
    for offset in range(0, len(good), 7):
        content = bytearray(good)
        content[offset] ^= 1
        path.write_bytes(content)
        try:
            result = torch.cat(list(npz_images(path, 2)))
        except ValueError:
            continue
        assert torch.equal(result, whole)  # times and such, which nothing is read from

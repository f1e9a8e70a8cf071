# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from PIL import Image

from pippin.images.folder import folder_images


def save(path, size=(6, 4), color=(255, 0, 0), mode="RGB"):
    Image.new(mode, size, color).save(path)
    return path


def test_every_format_in_order_of_paths(tmp_path):
    save(tmp_path / "b.png", color=(0, 0, 255))
    save(tmp_path / "a.PNG", color=(0, 255, 0))
    (tmp_path / "sub").mkdir()
    save(tmp_path / "sub" / "c.webp")
    save(tmp_path / "d.jpg")
    save(tmp_path / "e.jpeg")
    (tmp_path / "notes.txt").write_text("skipped")
    batches = list(folder_images(tmp_path, batch_size=2))
    assert [tuple(batch.shape) for batch in batches] == [(2, 3, 4, 6), (2, 3, 4, 6), (1, 3, 4, 6)]
    images = torch.cat(batches)
    assert images.dtype == torch.uint8
    assert images[0, :, 0, 0].tolist() == [0, 255, 0]
    assert images[1, :, 0, 0].tolist() == [0, 0, 255]


def test_mixed_sizes_come_as_separate_batches(tmp_path):
    for index, size in enumerate([(4, 4), (4, 4), (8, 8), (4, 4)]):
        save(tmp_path / f"{index}.png", size=size)
    shapes = [tuple(batch.shape) for batch in folder_images(tmp_path)]
    assert shapes == [(2, 3, 4, 4), (1, 3, 8, 8), (1, 3, 4, 4)]


def test_broken_files_are_named(tmp_path):
    (tmp_path / "junk.png").write_bytes(b"no image at all")
    with pytest.raises(ValueError, match=r"junk\.png cannot be read"):
        list(folder_images(tmp_path))


def test_an_empty_or_missing_folder_is_refused_at_once(tmp_path):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match=r"allowed are \.png"):
        folder_images(tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        folder_images(tmp_path / "nowhere")

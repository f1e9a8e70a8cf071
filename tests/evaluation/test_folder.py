# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from PIL import Image

from pippin.evaluation.folder import folder_images, read_image


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
    (tmp_path / "notes.txt").write_text("passed over")
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


def test_transparency_is_laid_on_white(tmp_path):
    path = save(tmp_path / "a.png", color=(255, 0, 0, 0), mode="RGBA")
    assert (read_image(path) == 255).all()
    half = save(tmp_path / "b.png", color=(0, 0, 0, 128), mode="RGBA")
    assert read_image(half).float().mean() == pytest.approx(127, abs=1)
    grey = save(tmp_path / "c.png", color=(0, 0), mode="LA")
    assert (read_image(grey) == 255).all()


def test_grey_becomes_rgb_and_rotation_is_applied(tmp_path):
    assert read_image(save(tmp_path / "grey.png", color=7, mode="L")).unique().tolist() == [7]
    rotated = Image.new("RGB", (6, 4))
    exif = rotated.getexif()
    exif[0x0112] = 6  # Orientation: turn by a quarter
    rotated.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (3, 6, 4)


def test_broken_files_are_named(tmp_path):
    (tmp_path / "junk.png").write_bytes(b"no image at all")
    with pytest.raises(ValueError, match=r"junk\.png cannot be read"):
        list(folder_images(tmp_path))
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:900])
    with pytest.raises(ValueError, match=r"cut\.jpg cannot be read"):
        read_image(tmp_path / "cut.jpg")


def test_sixteen_bits_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 40000, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="8 bits a channel"):
        read_image(tmp_path / "deep.png")


def test_an_empty_or_missing_folder_is_refused_at_once(tmp_path):
    (tmp_path / "picture.png").mkdir()
    with pytest.raises(ValueError, match=r"allowed are \.png"):
        folder_images(tmp_path)
    with pytest.raises(ValueError, match="is no folder"):
        folder_images(tmp_path / "nowhere")

# SPDX-License-Identifier: Apache-2.0
"""Custom data sets as a source: layouts, split, views and counterfactuals."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pippin.control import Control, Corner, Size
from pippin.data.cache.build import build_cache
from pippin.data.config import CacheConfig, ImagesConfig
from pippin.data.folder.check import summarise
from pippin.data.folder.listing import InvalidSourceError
from pippin.data.folder.scan import scan
from pippin.data.moments import EncodedViews
from pippin.data.source import ImageSource
from pippin.data.sources.images import ImageFolderSource, split_images
from pippin.data.views.crop import apply_control
from pippin.data.views.views import clean_view, counterfactual, make_view

Draw = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "photos"


@pytest.fixture
def draw(folder: Path) -> Draw:
    """Write a noise image that depends on the name only."""

    def make(name: str, height: int = 20, width: int = 30) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(list(name.encode()))
        Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        return path

    return make


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> ImagesConfig:
    return ImagesConfig(
        path=str(folder), index_folder=str(tmp_path / "index"), resolution=8, views=3
    )


@pytest.fixture
def photos(draw: Draw, config: ImagesConfig) -> ImagesConfig:
    """Twelve images of different shapes in three classes."""
    for number in range(12):
        name = f"{('cat', 'dog', 'eel')[number % 3]}/{number}.png"
        draw(name, height=17 + 5 * number, width=60 - 3 * number)
    return replace(config, held_out_share=0.3)


def both(config: ImagesConfig) -> list[ImageFolderSource]:
    return [ImageFolderSource(config, split) for split in ("train", "held-out")]


def keys(source: ImageSource) -> list[str]:
    return [source.key(index) for index in range(len(source))]


def test_folders_are_classes_and_the_splits_part_all_images(photos: ImagesConfig) -> None:
    train, held_out = both(photos)
    assert train.class_names == held_out.class_names == ("cat", "dog", "eel")
    assert not set(keys(train)) & set(keys(held_out))
    assert len(train) + len(held_out) == 12
    for source in (train, held_out):
        for index in range(len(source)):
            name = source.class_names[source.label(index)]
            assert source.key(index).startswith(f"{name}/")
            assert source.name(index) == name


def test_the_outermost_folder_is_the_class(draw: Draw, config: ImagesConfig) -> None:
    draw("cat/old/a.png")
    draw("dog/b.png")
    assert scan(config).class_names == ("cat", "dog")


def test_a_flat_folder_is_one_class(draw: Draw, config: ImagesConfig) -> None:
    for name in "abc":
        draw(f"{name}.png")
    assert scan(config).class_names == ("picture",)
    assert scan(config).layout == "flat"


def test_numbers_are_classes_in_their_order(draw: Draw, config: ImagesConfig) -> None:
    for name in ("10", "9", "x", "0"):
        draw(f"{name}/a.png")
    assert scan(config).class_names == ("0", "9", "10", "x")


def test_metadata_gives_classes_and_captions(
    draw: Draw, config: ImagesConfig, folder: Path
) -> None:
    for name in ("a.png", "deep/b.png"):
        draw(name)
    rows = ["file_name,label,caption", "a.png,cat,a cat asleep", "./deep\\b.png,dog,"]
    (folder / "metadata.csv").write_text("\n".join(rows))
    result = scan(config)
    assert result.class_names == ("cat", "dog")
    assert [p.name for p in result.images] == ["a.png", "deep/b.png"]
    sources = both(config)
    names = {s.key(i): s.name(i) for s in sources for i in range(len(s))}
    assert names == {"a.png": "a cat asleep", "deep/b.png": "dog"}


def test_captions_without_labels_are_one_class(
    draw: Draw, config: ImagesConfig, folder: Path
) -> None:
    for name in ("a.png", "b.png"):
        draw(name)
    rows = ['{"file_name": "a.png", "text": "one"}', '{"file_name": "b.png", "text": "two"}']
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    assert scan(config).class_names == ("picture",)
    assert {p.captions["name"] for p in scan(config).images} == {"one", "two"}


def test_kinds_of_captions_fall_back_on_the_main_one(
    draw: Draw, config: ImagesConfig, folder: Path
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        draw(name)
    place = folder / "metadata.csv"
    place.write_text("file_name,label,caption\na.png,cat,tom\nb.png,cat,tim\nc.png,dog,\n")
    before = [source.source_hash() for source in both(config)]
    head = "file_name,label,caption,caption_blip,caption_short\n"
    place.write_text(f"{head}a.png,cat,tom,a cat,\nb.png,cat,tim,,cat\nc.png,dog,,,\n")
    sources = both(config)
    result = {s.key(i): s.captions(i) for s in sources for i in range(len(s))}
    assert result == {
        "a.png": {"name": "tom", "caption_blip": "a cat", "caption_short": "tom"},
        "b.png": {"name": "tim", "caption_blip": "tim", "caption_short": "cat"},
        "c.png": {"name": "dog", "caption_blip": "dog", "caption_short": "dog"},
    }
    assert [source.source_hash() for source in sources] == before  # latents stay good
    (note,) = (n for n in summarise(scan(config), config).notes if "caption" in n)
    assert "name (1 empty), caption_blip (2 empty), caption_short (2 empty)" in note
    assert "folder/mmdit-disentangled-text" in note


def test_more_images_move_none(photos: ImagesConfig, draw: Draw) -> None:
    before = [set(keys(source)) for source in both(photos)]
    for number in range(40):
        draw(f"cat/more{number}.png")
    after = [set(keys(source)) for source in both(photos)]
    assert [old <= new for old, new in zip(before, after, strict=True)] == [True, True]


def test_equal_files_share_a_split(photos: ImagesConfig, folder: Path) -> None:
    for number in range(12):
        (original,) = folder.glob(f"*/{number}.png")
        for copy in range(4):
            (folder / f"zoo{copy}").mkdir(exist_ok=True)
            shutil.copy(original, folder / f"zoo{copy}" / f"{number}.png")
    parts = split_images(scan(photos).images, photos.held_out_share)
    train, held_out = ({p.sha256 for p in part} for part in parts.values())
    assert train
    assert held_out
    assert not train & held_out


def test_a_view_replays_from_its_control(photos: ImagesConfig) -> None:
    for source in both(photos):
        for index in range(len(source)):
            for view in range(photos.views):
                built = make_view(source, index, view)
                stored = source.image(index)
                assert built.control.original_size == stored.shape[1:]
                assert torch.equal(built.image, apply_control(stored, built.control, 8))
                assert torch.equal(built.image, counterfactual(source, index, built.control, view))


def test_corners_of_wide_and_tall_images_are_found_again(
    config: ImagesConfig, folder: Path
) -> None:
    """Pixels encode their position, so a crop without a resize reveals its corner."""
    folder.mkdir()
    for height, width in ((40, 90), (90, 40)):
        rows, columns = np.mgrid[:height, :width].astype(np.uint8)
        image = np.stack([rows, columns, np.zeros_like(rows)], axis=-1)
        Image.fromarray(image).save(folder / f"{height}.png")
    law = replace(config.crop_law, smallest=0.5, largest=0.5)
    for source in both(replace(config, crop_law=law, resolution=20, views=8)):
        for view in range(8):
            built = make_view(source, 0, view)
            pixels = built.image.flip(-1) if built.control.flip else built.image
            assert built.control.crop_size == (20, 20)
            assert tuple(pixels[:2, 0, 0].tolist()) == built.control.crop_corner


def test_the_size_after_rotation_counts(draw: Draw, config: ImagesConfig) -> None:
    path = draw("a.png", height=20, width=30)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(path, exif=exif)
    draw("b.png")
    for source in both(config):
        control = make_view(source, 0, 0).control
        expected = (30, 20) if source.key(0) == "a.png" else (20, 30)
        assert control.original_size == source.record(0).size == expected


def test_a_clean_view_is_the_centred_square(photos: ImagesConfig) -> None:
    source, _ = both(photos)
    for index in range(len(source)):
        size = source.record(index).size
        side, built = min(size), clean_view(source, index)
        top, left = (size.height - side) // 2, (size.width - side) // 2
        assert built.control == Control(
            original_size=size,
            crop_corner=Corner(top, left),
            crop_size=Size(side, side),
            flip=False,
        )


def test_a_smaller_file_of_the_same_image(draw: Draw, config: ImagesConfig) -> None:
    """Smooth images downsample to the same smooth image, non-square ones from their centre."""
    down, right = np.mgrid[0:1:80j, 0:1:120j]
    for name in ("a.png", "b.png"):
        path = draw(name)
        Image.fromarray((np.stack([down, right, right], -1) * 255).astype(np.uint8)).save(path)
        draw("c.png")
    source = next(s for s in both(config) if keys(s) != ["c.png"])
    same = source.image(0, None, Size(80, 120))
    assert torch.equal(same, source.image(0))
    half = source.image(0, None, Size(40, 60)).float() / 255
    assert (half[0, :, 0] - torch.linspace(0, 1, 40)).abs().max() < 0.02
    square = source.image(0, None, Size(40, 40)).float() / 255
    assert (square[1, 0] - torch.linspace(1 / 6, 5 / 6, 40)).abs().max() < 0.02


def test_a_larger_file_than_there_is_is_not_made_up(photos: ImagesConfig) -> None:
    source, _ = both(photos)
    height, width = source.record(0).size
    for size in (Size(height + 1, width), Size(height, width + 1)):
        assert not source.can_show(0, size)
        with pytest.raises(ValueError, match=rf"{height} x {width} pixels, too few for"):
            source.image(0, None, size)
    assert source.can_show(0, Size(height, width))
    assert source.can_show(0, Size(1, width))


@pytest.mark.parametrize("size", [(90, 80), (20, 20)])
def test_a_file_that_changed_its_size_since_the_scan_is_named(photos, folder, size) -> None:
    source = both(photos)[0]
    path = folder / source.key(0)
    before = source.original_size(0)
    Image.new("RGB", size).save(path)
    message = rf"{path.name} has {size[1]} x {size[0]} pixels, and had {before.height} x "
    for prepare in (lambda: make_view(source, 0, 0), lambda: clean_view(source, 0)):
        with pytest.raises(ValueError, match=message + r".*give the same command again"):
            prepare()
    again = {
        keyed.key(i): keyed.original_size(i) for keyed in both(photos) for i in range(len(keyed))
    }
    assert again[source.key(0)] == Size(size[1], size[0])


def test_half_of_the_images_reach_the_probe_side(photos: ImagesConfig) -> None:
    source, _ = both(photos)
    square = Size(source.probe_side, source.probe_side)
    reaching = sum(source.can_show(index, square) for index in range(len(source)))
    assert reaching >= len(source) / 2


def test_cached_equals_on_the_fly(photos: ImagesConfig, make_encoder, tmp_path: Path) -> None:
    source, _ = both(photos)
    cache = build_cache(source, make_encoder(), CacheConfig(folder=str(tmp_path), shard_size=5))
    fresh = EncodedViews(source, make_encoder(), encode_batch=2)
    indices = torch.arange(len(source)).repeat(3)
    views = torch.arange(3).repeat_interleave(len(source))
    cached, online = cache.fetch(indices, views), fresh.fetch(indices, views)
    torch.testing.assert_close(cached.moments.mean, online.moments.mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(cached.moments.std, online.moments.std, rtol=1e-6, atol=1e-7)
    assert torch.equal(cached.label, online.label)
    assert all(torch.equal(cached.control[n], online.control[n]) for n in online.control)


def test_only_so_many(photos: ImagesConfig) -> None:
    some, all_of_them = (
        ImageFolderSource(replace(photos, max_pictures=3), "train"),
        both(photos)[0],
    )
    assert len(some) == 3
    assert set(keys(some)) < set(keys(all_of_them))
    assert some.class_names == all_of_them.class_names


@pytest.mark.parametrize("change", ["pixels", "name", "class", "one more"])
def test_any_change_of_the_files_changes_the_hash(
    photos: ImagesConfig, draw: Draw, folder: Path, change: str
) -> None:
    source, _ = both(photos)
    before, first = source.source_hash(), source.record(0).path
    match change:
        case "pixels":
            Image.new("RGB", (30, 30)).save(first)
        case "name":
            first.rename(first.with_stem(f"{first.stem}-renamed"))
        case "class":
            first.parent.rename(folder / "zebra")
        case "one more":
            for number in range(8):
                draw(f"cat/more{number}.png")
    assert both(photos)[0].source_hash() != before


def test_where_the_folder_lies_changes_nothing(photos: ImagesConfig, folder: Path) -> None:
    before, _ = both(photos)
    views = [make_view(before, index, 1) for index in range(len(before))]
    moved = folder.with_name("moved")
    folder.rename(moved)
    after, _ = both(replace(photos, path=str(moved)))
    assert after.source_hash() == before.source_hash()
    assert [make_view(after, i, 1).control for i in range(len(after))] == [
        view.control for view in views
    ]


def test_no_folder_given_or_there_is_said(config: ImagesConfig, folder: Path) -> None:
    with pytest.raises(ValueError, match=r"--data\.path FOLDER"):
        scan(replace(config, path=""))
    with pytest.raises(ValueError, match="photos is not there"):
        scan(config)
    folder.write_text("a file")
    with pytest.raises(ValueError, match="photos is a file"):
        scan(config)


def test_one_image_is_not_enough(draw: Draw, config: ImagesConfig, folder: Path) -> None:
    shutil.copy(draw("a.png"), folder / "b.png")
    with pytest.raises(
        InvalidSourceError, match=r"2 usable images; at least 2 different ones are needed"
    ):
        ImageFolderSource(config, "train")

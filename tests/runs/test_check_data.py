# SPDX-License-Identifier: Apache-2.0
"""Checks and notes of a training on a folder before it begins."""

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from noise_images import write_noise
from rich.console import Console

from pippin.conditioning.config import TextSemantic
from pippin.data.config import ImagesConfig
from pippin.data.folder.listing import InvalidSourceError
from pippin.encoders.config import TextConfig
from pippin.runs.components import Components
from pippin.runs.data.check_data import check_data
from pippin.runs.prepare import prepare
from pippin.training.train import train

RULE = TextSemantic(token_features=384, num_tokens=8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number in range(12):
        write_noise(folder / f"{number:02}.png", number, (20, 20))
    return folder


@pytest.fixture
def on_photos(recipe, photos, tmp_path):
    data = ImagesConfig(path=str(photos), resolution=32, views=1, index_folder=str(tmp_path / "i"))
    return replace(recipe, data=data)


@pytest.fixture
def text_recipe(on_photos, tmp_path):
    conditioning = replace(on_photos.conditioning, semantic=RULE, rules={"text": "attention"})
    text = TextConfig(folder=str(tmp_path / "text"))
    return replace(on_photos, conditioning=conditioning, text=text)


def with_kinds(recipe, **kinds: float):
    return replace(recipe, text=replace(recipe.text, captions=kinds))


def caption(photos: Path, head: str = "file_name,caption", count: int = 12) -> None:
    rows = [f"{number:02}.png,{f'owl {number}' if number < count else ''}" for number in range(12)]
    (photos / "metadata.csv").write_text("\n".join([head, *rows]))


def said(recipe, **options: bool) -> str:
    console = Console(file=io.StringIO(), width=1000)
    check_data(Components(recipe, console), **options)
    return console.file.getvalue().strip()


def test_no_caption_at_all_is_refused_where_text_is_read(on_photos, text_recipe, tmp_path) -> None:
    for begin in (
        lambda: train(text_recipe, tmp_path / "run", console=Console(quiet=True)),
        lambda: prepare(text_recipe, console=Console(quiet=True)),
    ):
        with pytest.raises(
            InvalidSourceError, match=r"no training image of .* has a caption"
        ) as no:
            begin()
        assert "the name of its class (picture)" in str(no.value)
        assert "--text.captions class 1" in str(no.value)
    assert not (tmp_path / "run").exists()
    assert said(on_photos) == ""


def test_a_column_near_to_captions_is_named(photos, text_recipe) -> None:
    caption(photos, "file_name,prompt")
    with pytest.raises(InvalidSourceError, match="Rename the column 'prompt' to caption; or give"):
        said(text_recipe)


def test_empty_captions_are_none(photos, text_recipe) -> None:
    caption(photos, count=0)
    with pytest.raises(InvalidSourceError, match="has a caption"):
        said(text_recipe)


def test_class_names_are_captions_where_they_are_asked_for(text_recipe) -> None:
    asked = with_kinds(text_recipe, **{"class": 1.0})
    assert said(asked) == ""
    captions = Components(asked, Console(quiet=True)).captions
    assert captions is not None and set(captions.first) == {"picture"}


def test_few_captions_are_counted(photos, text_recipe) -> None:
    caption(photos, count=12)
    assert said(text_recipe) == ""
    caption(photos, count=3)
    source = Components(text_recipe, Console(quiet=True)).train_source
    lacking = sum(int(source.key(index)[:2]) >= 3 for index in range(len(source)))
    text = said(text_recipe)
    assert f"{lacking} of {len(source)} training images ({lacking / len(source):.1%})" in text
    assert "trained with the name of their class" in text


def test_a_kind_of_captions_that_no_image_has_is_refused(photos, text_recipe) -> None:
    rows = [f"{number:02}.png,owl," for number in range(12)]
    (photos / "metadata.csv").write_text("\n".join(["file_name,caption,caption_blip", *rows]))
    assert said(text_recipe) == ""
    with pytest.raises(InvalidSourceError, match="caption of the kind caption_blip: fill"):
        said(with_kinds(text_recipe, name=1.0, caption_blip=1.0))


def test_what_was_begun_without_captions_goes_on(text_recipe) -> None:
    assert "has a caption" in said(text_recipe, resumed=True)


def test_splits_are_refused_and_other_oddities_said(photos, on_photos, tmp_path) -> None:
    for name in ("train", "val"):
        (photos / name).mkdir()
    for number in range(12):
        (photos / f"{number:02}.png").rename(
            photos / ("train", "val")[number % 2] / f"{number}.png"
        )
    with pytest.raises(InvalidSourceError, match=rf"--data\.path {photos}/train"):
        train(on_photos, tmp_path / "run", console=Console(quiet=True))
    assert "names of splits" in said(on_photos, resumed=True)
    write_noise(photos / "extras" / "a.png", 99, (20, 20))
    os.symlink("../train", photos / "val" / "see-train")
    (photos / "extras" / "metadata.csv").write_text("file_name\na.png\n")
    text = said(on_photos)
    assert "train, val have names of splits and count as classes" in text
    assert "not read: extras/metadata.csv" in text
    assert "val/see-train (counted as train)" in text

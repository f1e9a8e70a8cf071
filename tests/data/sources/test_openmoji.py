# SPDX-License-Identifier: Apache-2.0
from collections import Counter

import pytest
import torch

from pippin.config import ConfigError
from pippin.control import Size
from pippin.data.config import CropConfig, OpenMojiConfig, OriginalSizeConfig
from pippin.data.sources.openmoji import OpenMojiSource
from pippin.data.sources.openmoji_table import CLASSES


def source(split: str = "held-out", **settings: object) -> OpenMojiSource:
    return OpenMojiSource(OpenMojiConfig(**settings), split)


def place(openmoji: OpenMojiSource, name: str) -> int:
    """Index of the image with this name."""
    return next(i for i in range(len(openmoji)) if openmoji.name(i) == name)


def test_lengths_by_tones() -> None:
    assert (len(source("train")), len(source("held-out"))) == (2237, 219)
    assert len(source(tones="base-only")) == 219
    assert (len(source("train", tones="all")), len(source(tones="all"))) == (4157, 329)


def test_classes_are_the_groups_in_fixed_order() -> None:
    openmoji = source("train")
    assert openmoji.class_names == CLASSES
    assert {openmoji.label(i) for i in range(len(openmoji))} == set(range(11))
    assert openmoji.label(place(openmoji, "grinning face")) == 0
    assert openmoji.label(place(openmoji, "flag: Ukraine")) == CLASSES.index("flags")


def test_sizes_are_log_uniform_and_belong_to_the_image() -> None:
    openmoji = source("train")
    sides = torch.tensor([openmoji.original_size(i).height for i in range(len(openmoji))])
    assert int(sides.min()) >= 24
    assert int(sides.max()) <= 256
    shares = (sides / 24).log() / torch.tensor(256 / 24).log()
    steps = torch.arange(1, len(sides) + 1) / len(sides)
    assert float((shares.sort().values - steps).abs().max()) < 0.034  # 1 % of Kolmogorov-Smirnov
    assert source("train", seed=1).original_size(0) != openmoji.original_size(0)


def test_the_dial_ties_the_size_to_the_class() -> None:
    openmoji = source(size_law=OriginalSizeConfig(class_correlation=1.0))
    sizes = {(openmoji.label(i), openmoji.original_size(i)) for i in range(len(openmoji))}
    assert len(sizes) == 11
    sides = [size.height for _, size in sorted(sizes)]
    assert sides == sorted(sides)


def test_draws_belong_to_the_image_not_to_its_place() -> None:
    plain, every = source(), source(tones="all")
    index = place(plain, "person raising hand")
    other = place(every, "person raising hand")
    assert index != other
    assert plain.original_size(index) == every.original_size(other)


def test_each_view_draws_one_of_the_tones() -> None:
    openmoji = source()
    index = place(openmoji, "person raising hand")
    drawn = Counter(openmoji.drawing(index, view) for view in range(600))
    assert len(drawn) == 6
    assert set(drawn) > {"1F64B", "1F64B-1F3FB"}
    assert max(drawn.values()) < 145  # 100 expected, five standard deviations


@pytest.mark.parametrize("tones", ["base-only", "all"])
def test_other_tones_options_draw_the_image_itself(tones: str) -> None:
    openmoji = source(tones=tones)
    index = place(openmoji, "person raising hand")
    assert {openmoji.drawing(index, view) for view in range(20)} == {"1F64B"}


def test_without_a_view_the_image_is_untoned() -> None:
    openmoji = source()
    index = place(openmoji, "person raising hand")
    assert openmoji.drawing(index) == "1F64B"
    toned = next(v for v in range(20) if openmoji.drawing(index, v) != "1F64B")
    size = Size(40, 40)
    assert openmoji.image(index).shape[1:] == openmoji.original_size(index)
    assert not torch.equal(openmoji.image(index, toned, size), openmoji.image(index, None, size))


def test_a_size_that_is_not_square_is_refused() -> None:
    with pytest.raises(ValueError, match="square; got a size of 30 x 40"):
        source().image(0, original_size=Size(30, 40))


def test_the_table_row_is_at_hand() -> None:
    openmoji = source()
    row = openmoji.emoji(place(openmoji, "person raising hand"))
    assert (row.subgroup, row.family, row.base) == ("person-gesture", "1F64B", "")
    assert "hand" in row.tags


def test_the_hash_tells_selections_apart_and_ignores_crops() -> None:
    hashes = [source(tones=tones).source_hash() for tones in ("one-per-view", "base-only", "all")]
    assert hashes[0] == hashes[1] != hashes[2]
    assert source(crop_law=CropConfig(smallest=0.5)).source_hash() == hashes[0]
    assert len(hashes[0]) == 16


def test_the_hash_sees_one_changed_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = source().source_hash()
    from pippin.data.sources import openmoji

    real = openmoji.svg_bytes
    monkeypatch.setattr(
        openmoji,
        "svg_bytes",
        lambda code, art: real(code, art) + b" " * (code == "1F64B-1F3FD"),
    )
    assert source().source_hash() != before


def test_max_images_is_a_fixed_mixture_and_leaves_draws_alone():
    whole = OpenMojiSource(OpenMojiConfig(), "train")
    few = OpenMojiSource(OpenMojiConfig(max_pictures=60), "train")
    fewer = OpenMojiSource(OpenMojiConfig(max_pictures=30), "train")
    keys = [few.key(index) for index in range(60)]
    assert len(few) == 60
    assert {fewer.key(index) for index in range(30)} < set(keys)
    assert len({few.label(index) for index in range(60)}) >= 8
    place = [whole.key(index) for index in range(len(whole))].index(keys[5])
    assert few.original_size(5) == whole.original_size(place)


BOTH = ("openmoji", "twemoji")


def test_two_arts_show_a_image_twice_in_the_same_split() -> None:
    for split, own, more in (("train", 2237, 1756), ("held-out", 219, 170)):
        one, both = source(split), source(split, art=BOTH)
        assert [both.key(i) for i in range(own)] == [one.key(i) for i in range(own)]
        names = {one.key(i) for i in range(own)}
        others = [both.key(i) for i in range(own, len(both))]
        assert len(others) == more
        assert {key.removesuffix("/twemoji") for key in others} < names


def test_captions_tell_the_art_apart_in_their_style_alone() -> None:
    openmoji = source("train", art=BOTH)
    first = place(openmoji, "red apple")
    other = next(i for i in range(first + 1, len(openmoji)) if openmoji.name(i) == "red apple")
    here, there = openmoji.captions(first), openmoji.captions(other)
    assert here["style"] == "red apple, openmoji"
    assert there["style"] == "red apple, twemoji"
    assert (here["name"], here["tags"]) == (there["name"], there["tags"])
    assert not torch.equal(openmoji.image(first), openmoji.image(other))


def test_views_of_twemoji_show_its_own_skin_tones() -> None:
    openmoji = source("train", art=BOTH)
    index = next(i for i in range(len(openmoji)) if openmoji.key(i) == "1F3C3/twemoji")
    drawn = {openmoji.drawing(index, view) for view in range(40)}
    assert len(drawn) == 6
    assert all(code.startswith("1F3C3") for code in drawn)


def test_left_out_pairs_are_not_trained_on() -> None:
    left_out = ("green apple", "rocket, twemoji")
    openmoji = source("train", art=BOTH, left_out=left_out)
    styled = {openmoji.captions(i)["style"] for i in range(len(openmoji))}
    assert len(openmoji) == len(source("train", art=BOTH)) - 3
    assert "rocket, openmoji" in styled
    assert not styled & {"green apple, openmoji", "green apple, twemoji", "rocket, twemoji"}
    assert len(source(left_out=left_out)) == 219


def test_a_pair_that_no_image_shows_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"called 'green aple'; the nearest: 'green apple'"):
        source("train", left_out=("green aple",))


@pytest.mark.parametrize("art", [(), ("twemoji", "twemoji")])
def test_no_art_and_one_named_twice_are_refused(art: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"data\.art must name openmoji, twemoji or both"):
        source(art=art)

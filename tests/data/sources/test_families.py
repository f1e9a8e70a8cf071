# SPDX-License-Identifier: Apache-2.0
from collections import Counter, defaultdict

import pytest

from pippin.data.sources.openmoji_table import assign_families, family_keys, read_table
from pippin.data.sources.rasterise import rasterise

TABLE = {emoji.hexcode: emoji for emoji in read_table()}
FAMILY = {emoji.name: emoji.family for emoji in read_table()}


@pytest.mark.parametrize(
    "names",
    [
        (
            "person running",
            "man running",
            "woman running: facing right",
            "man running: dark skin tone",
        ),
        ("cat", "black cat"),
        ("white flag", "rainbow flag", "transgender flag", "browncoat flag"),
        ("man", "woman", "child", "boy", "old man", "woman: red hair", "person: bald"),
        ("family", "family: man, woman, girl, boy", "family: adult, child"),
        ("couple with heart: man, man", "kiss", "women holding hands"),
        ("prince", "princess", "person with crown"),
        ("Santa Claus", "Mrs. Claus", "Mx Claus"),
        ("cook", "man cook", "woman cook: light skin tone"),
        ("man dancing", "woman dancing"),
        ("dj", "dj man", "dj woman"),
        ("gardener man", "gardener woman"),
        ("polar explorer", "polar explorer man"),
        ("person with medical mask", "woman with medical mask"),
        ("red heart", "green heart", "heart on fire"),
        ("thumbs up", "thumbs down"),
        ("one o’clock", "eleven-thirty"),  # noqa: RUF001
        ("handshake", "handshake: light skin tone, dark skin tone"),
    ],
)
def test_variants_are_one_family(names: tuple[str, ...]) -> None:
    assert len({FAMILY[name] for name in names}) == 1


@pytest.mark.parametrize(
    "names",
    [
        ("cook", "farmer", "astronaut", "person", "cooking", "rocket"),
        ("flag: Ukraine", "flag: Bulgaria", "white flag"),
        ("grinning face", "crying face"),
        ("person running", "person walking"),
        ("cat", "cat face", "dog"),
        ("family", "couple with heart", "person"),
        ("red heart", "red circle"),
        ("upside-down face", "face with tongue"),
    ],
)
def test_other_images_are_other_families(names: tuple[str, ...]) -> None:
    assert len({FAMILY[name] for name in names}) == len(names)


def test_the_extras_join_the_unicode_image_of_the_same_name() -> None:
    by_name = defaultdict(set)
    for image in TABLE.values():
        by_name[image.name].add(image.family)
    assert {len(by_name[name]) for name in ("brain", "donkey", "pretzel", "moai", "axe")} == {1}


def test_keys_ignore_tone_gender_hair_and_direction() -> None:
    plain = family_keys("1F9D1-200D-1F9AF", "person with white cane")
    variant = family_keys(
        "1F469-1F3FF-200D-1F9AF-200D-27A1-FE0F", "woman with white cane: facing right"
    )
    assert plain == variant == ("code with 1F9AF", "name with cane")


def test_families_join_through_others_in_any_order() -> None:
    names = {"1F408": "cat", "E111": "small bird", "1F408-200D-2B1B": "bird"}
    assert set(assign_families(names).values()) == {"1F408"}
    turned = dict(reversed(names.items()))
    assert set(assign_families(turned).values()) == {"1F408-200D-2B1B"}


def test_the_table_holds_what_the_function_gives() -> None:
    untoned = {p.hexcode: p.name for p in TABLE.values() if not p.base}
    assert assign_families(untoned) == {code: TABLE[code].family for code in untoned}


def test_toned_images_are_in_the_family_of_their_base() -> None:
    toned = [image for image in TABLE.values() if image.base]
    assert len(toned) == 2030
    assert all(image.family == TABLE[image.base].family for image in toned)


def test_there_is_no_giant_family() -> None:
    sizes = Counter(p.family for p in TABLE.values() if not p.base and p.group != "component")
    assert max(sizes.values()) == 34
    assert sum(size > 12 for size in sizes.values()) == 8


def test_images_drawn_alike_are_one_family() -> None:
    families = defaultdict(set)
    for image in TABLE.values():
        if not image.base and image.group in {"people-body", "flags"}:
            families[rasterise(image.hexcode, 12).numpy().tobytes()].add(image.family)
    assert len(families) > 600
    assert {len(result) for result in families.values()} == {1}

# SPDX-License-Identifier: Apache-2.0
"""Grouping of archive members into samples, by names only."""

import pytest

from pippin.data.importing.tar import Member, group_members


def grouped(*names):
    """Key -> kinds, in order, and the counts of members without a sample."""
    samples, others = group_members(Member(name, 0, 0) for name in names)
    return [(sample.key, [*sample.members]) for sample in samples], dict(others)


@pytest.mark.parametrize(
    ("names", "samples"),
    [
        (["1.jpg", "1.txt", "2.jpg"], [("1", ["jpg", "txt"]), ("2", ["jpg"])]),
        (["1.JPG", "1.Txt"], [("1", ["jpg", "txt"])]),
        (["./a/1.jpg", "a/1.txt", "b/1.jpg"], [("a/1", ["jpg", "txt"]), ("b/1", ["jpg"])]),
        (["/a/../1.jpg", "1.txt"], [("1", ["jpg", "txt"])]),
    ],
)
def test_a_key_ends_at_the_first_dot(names, samples):
    assert grouped(*names) == (samples, {})


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (["f_0.01.jpg", "f_0.01.txt", "f_0.02.jpg", "f_0.02.txt"], ["f_0.01", "f_0.02"]),
        (["I_2023.01.05.jpg", "I_2023.02.05.jpg"], ["I_2023.01.05", "I_2023.02.05"]),
        (["1.v1.5.jpg", "1.v1.5.txt", "2.v1.5.jpg"], ["1.v1.5", "2.v1.5"]),
        (["a.red.car.jpg", "a.red.car.txt", "a.blue.car.jpg"], ["a.red.car", "a.blue.car"]),
        (["cat.jpg", "cat.txt", "cat.asleep.jpg", "cat.asleep.txt"], ["cat", "cat.asleep"]),
        (["Mr. Toad.jpg", "Mr. Toad.txt", "Mr. Mole.jpg"], ["Mr. Toad", "Mr. Mole"]),
    ],
)
def test_dots_of_a_name_belong_to_its_key(names, keys):
    assert [key for key, _ in grouped(*names)[0]] == keys


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        (["1.depth.png", "1.jpg"], ["depth.png", "jpg"]),
        (["1.depth.png"], ["depth.png"]),
        (["1.jpg", "1.night.jpg"], ["jpg", "night.jpg"]),
        (["1.left.png", "1.right.png", "2.left.png", "2.right.png"], ["left.png", "right.png"]),
        (["f.01.png", "f.01.Mask.PNG"], ["png", "mask.png"]),
        (["1.jpg", "1.jpg.txt"], ["jpg", "jpg.txt"]),
        (["1.t5.npy", "1.jpg"], ["t5.npy", "jpg"]),
    ],
)
def test_words_between_dots_say_what_a_member_holds(names, kinds):
    (_, result), *_ = grouped(*names)[0]
    assert result == kinds


def test_members_of_a_key_need_not_follow_one_another():
    names = ["1.jpg", "2.jpg", "3.jpg", "3.txt", "1.txt", "2.txt"]
    assert grouped(*names)[0] == [(key, ["jpg", "txt"]) for key in "123"]


def test_a_kind_that_comes_again_begins_another_sample():
    """Concatenated archives repeat the numbers of their members."""
    alike = ["1.jpg", "1.txt", "2.jpg", "1.jpg", "1.txt", "2.jpg", "2.txt"]
    assert [kinds for _, kinds in grouped(*alike)[0]] == [
        ["jpg", "txt"],
        ["jpg"],
        ["jpg", "txt"],
        ["jpg", "txt"],  # the text follows the second image of its key
    ]
    apart = ["1.jpg", "2.jpg", "1.jpg", "9.x", "1.txt", "9.y", "1.txt"]
    assert [kinds for key, kinds in grouped(*apart)[0] if key == "1"] == [["jpg", "txt"]] * 2


def test_hidden_files_and_names_without_a_suffix_are_counted():
    names = ["._1.jpg", "a/.DS_Store", "__MACOSX/1.jpg", "__meta__.json", "README", "1.jpg"]
    samples, others = grouped(*names)
    assert samples == [("1", ["jpg"])]
    assert others == {"hidden files": 4, "names without a suffix": 1}


def test_many_members_of_one_name_take_no_longer_each():
    samples, _ = group_members(Member("1.jpg", n, 0) for n in range(20_000))
    assert [sample.members["jpg"].start for sample in samples] == list(range(20_000))

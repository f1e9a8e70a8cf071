# SPDX-License-Identifier: Apache-2.0
"""Arms that continue from checkpoints say so."""

from dataclasses import replace

import pytest

from pippin.study.start import starting_point


def declared(study, **starts):
    declaration = study.declaration()
    arms = {
        arm: recipe | ({"init": starts[arm]} if arm in starts else {})
        for arm, recipe in declaration.arms.items()
    }
    return replace(declaration, arms=arms)


def test_fresh_arms_say_nothing(study):
    assert starting_point(study.declaration()) == ""
    assert starting_point(declared(study, entangled={"source": None})) == ""


def test_own_checkpoints(study):
    found = declared(
        study,
        entangled={"source": "pippin/a", "images_seen": 1_600_000},
        disentangled={"source": "pippin/b", "images_seen": 1_600_000},
    )
    assert starting_point(found) == (
        "each arm continues from its own checkpoint: "
        "entangled: pippin/a, 1,600,000 images before; "
        "disentangled: pippin/b, 1,600,000 images before; 10,000 images here"
    )


def test_one_checkpoint_for_all(study):
    same = {"source": "pippin/a"}
    found = starting_point(declared(study, entangled=same, disentangled=same))
    assert found == "all arms continue from pippin/a; 10,000 images here"


def test_only_one_arm_continues(study):
    """Not hidden: this would be no fair comparison."""
    found = starting_point(declared(study, disentangled={"source": "pippin/b"}))
    assert "entangled: from initial weights; disentangled: pippin/b" in found


@pytest.mark.parametrize("kind", [True, "12"])
def test_only_whole_numbers_count_images(study, kind):
    found = starting_point(declared(study, entangled={"source": "a", "images_seen": kind}))
    assert "before" not in found

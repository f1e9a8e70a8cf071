# SPDX-License-Identifier: Apache-2.0
"""Configuration trees: recording, replay, validation, comparison."""

import subprocess
import sys
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pippin.config import (
    Config,
    ConfigError,
    difference,
    fingerprint,
    legacy_settings,
    protocol,
    replace_at,
)
from pippin.data.folder.scan import FileRecord
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import RECIPES, get_recipe
from pippin.settings.marks import PROTOCOL_IF_CHANGED, added_later


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_its_record(name, tmp_path):
    recipe = get_recipe(name)
    recipe.save(tmp_path / "config.json")
    assert Recipe.load(tmp_path / "config.json") == recipe


@dataclass(frozen=True, kw_only=True)
class Entry(Config):
    """A record with settings of any kind, as rows of results have."""

    settings: dict[str, Any]


def test_settings_of_any_kind_are_copied_and_their_names_are_strings():
    given = {"a.b": [1, None], "c": 0.5}
    entry = Entry.from_dict({"settings": given})
    assert entry.settings == given and entry.settings is not given
    for wrong, said in (
        ({3: 1}, r"expected str @ \$\.settings\[3\]"),
        ([1], "settings"),
        (None, "settings"),
    ):
        with pytest.raises(ConfigError, match=said):
            Entry.from_dict({"settings": wrong})


def test_unknown_keys_and_wrong_types_are_named_by_path():
    values = get_recipe("openmoji/mmdit-entangled").to_dict()
    values["train"]["lerning_rate"] = 1.0
    values["seed"] = "0"
    values["data"]["size_law"]["smallest"] = 3.5
    with pytest.raises(ConfigError) as caught:
        Recipe.from_dict(values)
    for part in ("lerning_rate", "$.seed", "$.data.size_law.smallest"):
        assert part in str(caught.value)


def test_broken_json_is_a_named_error(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json is not JSON"):
        Recipe.load(tmp_path / "config.json")


def test_unknown_recipe_names_what_is_like_it():
    with pytest.raises(ConfigError, match="near it are openmoji/unet-entangled"):
        get_recipe("openmoji/unet")


def test_fingerprint_ignores_where_and_how_fast_but_nothing_else():
    recipe = get_recipe("openmoji/mmdit-entangled")
    moved = replace(recipe, train=replace(recipe.train, device="cuda", workers=7, log_every=1))
    assert fingerprint(moved) == fingerprint(recipe)
    assert difference(moved, recipe) == {}
    changed = replace_at(recipe, "train.learning_rate", 3e-4)
    assert fingerprint(changed) != fingerprint(recipe)
    assert difference(recipe, changed) == {"train.learning_rate": (1e-3, 3e-4)}


def test_every_protocol_setting_changes_the_fingerprint():
    recipe = get_recipe("openmoji/mmdit-entangled")
    settings = protocol(recipe)
    assert {"train.batch_size", "data.crop_law.smallest", "conditioning.rules"} <= set(settings)
    assert not {"train.device", "cache.folder", "sampling.batch_size"} & set(settings)
    assert fingerprint(settings) == fingerprint(recipe)
    names = {fingerprint(settings | {path: "another"}) for path in settings}
    assert len(names | {fingerprint(recipe)}) == len(settings) + 1


def test_replace_at_names_the_missing_setting():
    recipe = get_recipe("openmoji/mmdit-entangled")
    with pytest.raises(ConfigError, match="TrainConfig has no 'rate'; it has: images"):
        replace_at(recipe, "train.rate", 1)


def test_arms_of_the_main_job_differ_on_two_axes_only():
    a, b = (get_recipe(f"openmoji/mmdit-{kind}") for kind in ("entangled", "disentangled"))
    assert set(difference(a, b)) == {
        "conditioning.rules",
        "conditioning.control.low_gate.kind",
        "conditioning.control.low_gate.alpha",
    }


def test_configuration_imports_no_torch():
    code = "import sys, pippin.recipes.table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("train.keep_checkpoints", 0),  # would delete the checkpoint just written
        ("train.checkpoint_every", 0),
        ("train.log_every", 0),
        ("train.max_bad_steps", 0),
        ("train.ema.share", 0.0),
        ("data.max_pictures", 0),
    ],
)
def test_settings_that_would_lose_work_are_refused(path, value):
    with pytest.raises(ConfigError, match=path.split(".")[-1]):
        replace_at(get_recipe("openmoji/mmdit-entangled"), path, value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "is not JSON"), (b"\xff\x00g", "is not JSON"), (b"[1]", "must hold a JSON object")],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"config\.json {message}"):
        Recipe.load(path)


def test_a_setting_that_came_later_counts_where_it_differs_from_its_default():
    @dataclass(frozen=True, kw_only=True)
    class Later(Config):
        old: int = 1
        new: int = field(default=2, metadata=PROTOCOL_IF_CHANGED)

    assert protocol(Later()) == {"old": 1}
    assert protocol(Later(new=3)) == {"old": 1, "new": 3}
    assert difference(Later(), Later(new=3)) == {"new": (2, 3)}


def test_a_record_without_a_setting_is_replayed_as_it_was_made():
    @dataclass(frozen=True, kw_only=True)
    class Inner(Config):
        old: int = 1
        new: str = field(default="now", metadata=added_later("then"))

    @dataclass(frozen=True, kw_only=True)
    class Outer(Config):
        inner: Inner = Inner()

    then = Outer.from_dict({"inner": {"old": 1}})
    assert then.inner.new == "then" and Outer().inner.new == "now"
    assert protocol(then) == {"inner.old": 1}  # so its fingerprint is that of its record
    assert protocol(Outer()) == {"inner.old": 1, "inner.new": "now"}
    assert difference(then, Outer()) == {"inner.new": ("then", "now")}
    assert Outer.from_dict(then.to_dict()) == then and Outer.from_dict({}) == Outer()
    assert legacy_settings(Outer(), {"inner": {"old": 1}}) == {"inner.new": "then"}
    assert legacy_settings(Outer(), Outer().to_dict()) == {}
    with pytest.raises(ConfigError, match=r"expected str @ \$\.inner\.new"):
        Outer.from_dict({"inner": {"new": 3}})


def test_a_setting_that_counts_where_it_differs_has_a_default_to_differ_from():
    with pytest.raises(AssertionError, match=r"Late\.new is PROTOCOL_IF_CHANGED and has no"):

        @dataclass(frozen=True, kw_only=True)
        class Late(Config):
            new: tuple[int, ...] = field(metadata=PROTOCOL_IF_CHANGED)

    @dataclass(frozen=True, kw_only=True)
    class Made(Config):
        new: dict[str, int] = field(default_factory=dict, metadata=PROTOCOL_IF_CHANGED)

    assert protocol(Made()) == {} and protocol(Made(new={"a": 1})) == {"new": {"a": 1}}
    assert difference(Made(), Made(new={"a": 1})) == {"new": ({}, {"a": 1})}


@pytest.mark.parametrize("key", ["seed", "recipe_that_is_none"])
def test_a_setting_that_stands_twice_is_refused(key, tmp_path):
    """It is unknown which of the two values was meant."""
    path = tmp_path / "config.json"
    path.write_text(f'{{"{key}": 1, "{key}": 2}}')
    with pytest.raises(ConfigError, match=f"config.json is not JSON: duplicate key '{key}'"):
        Recipe.load(path)


@pytest.mark.parametrize("value", [2**54, 10**30, 10**400])
@pytest.mark.parametrize(
    "setting", ["train.images", "sampling.steps", "denoiser.width", "train.learning_rate"]
)
def test_numbers_that_nothing_can_count_to_are_refused_in_few_words(value, setting):
    recipe = get_recipe("openmoji/mmdit-disentangled")
    with pytest.raises(ConfigError, match="9007199254740992") as caught:
        replace_at(recipe, setting, value)
    assert setting in str(caught.value) and len(str(caught.value)) < 200
    section, _, name = setting.partition(".")
    values = recipe.to_dict()
    values[section][name] = value
    with pytest.raises(ConfigError, match=name) as caught:
        Recipe.from_dict(values)
    assert len(str(caught.value)) < 300


def test_times_of_change_in_nanoseconds_can_be_recorded():
    """They exceed the largest integer of settings."""
    record = FileRecord(num_bytes=1, changed_ns=1_800_000_000_000_000_001).to_dict()
    assert FileRecord.from_dict(record).changed_ns == 1_800_000_000_000_000_001

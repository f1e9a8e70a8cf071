# SPDX-License-Identifier: Apache-2.0
"""Recipes as YAML and JSON files."""

import pytest

from pippin.config import ConfigError
from pippin.recipes.table import RECIPES, get_recipe, load_recipe, recipe_json, recipe_yaml

RECIPE = "openmoji/mmdit-disentangled"


def written(tmp_path, text, name="mine.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_reads_back_equal(name, tmp_path):
    recipe = get_recipe(name)
    assert load_recipe(written(tmp_path, recipe_yaml(recipe))) == recipe
    assert load_recipe(written(tmp_path, recipe_json(recipe), "mine.json")) == recipe


def test_a_saved_config_reads_back_equal(tmp_path):
    recipe = get_recipe(RECIPE)
    recipe.save(tmp_path / "config.json")
    assert load_recipe(tmp_path / "config.json") == recipe


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "1.0e-4", "0.0001", "1.e-4"])
def test_numbers_with_an_exponent(text, tmp_path):
    whole = recipe_yaml(get_recipe(RECIPE))
    changed = whole.replace("  learning_rate: 0.001\n", f"  learning_rate: {text}\n", 1)
    assert changed != whole
    assert load_recipe(written(tmp_path, changed)).train.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  batch_size: ", "  batch_sise: ", r"batch_sise\).*near it are .*batch_size"),
        ("  batch_size: ", "  width: 3\n  batch_size: ", r"extra fields found \(width\)"),
        ("seed: 0\n", "seed: 0\nseed: 1\n", "duplicate key 'seed'"),
        ("  batch_size: 128", "  batch_size: many", "expected int @"),
        ("data:", "data: [", "is not YAML"),
    ],
)
def test_a_wrong_file_is_refused_and_named(old, new, message, tmp_path):
    whole = recipe_yaml(get_recipe(RECIPE))
    assert old in whole
    with pytest.raises(ConfigError, match=rf"(?s)mine\.yaml.*{message}"):
        load_recipe(written(tmp_path, whole.replace(old, new, 1)))


@pytest.mark.parametrize("text", ["", "- 1", "7", "!!python/object/apply:os.getcwd []"])
def test_what_holds_no_settings_is_refused(text, tmp_path):
    with pytest.raises(ValueError, match=r"mine\.yaml"):
        load_recipe(written(tmp_path, text))

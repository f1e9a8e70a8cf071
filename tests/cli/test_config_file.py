# SPDX-License-Identifier: Apache-2.0
"""``--config FILE`` of the verbs that take a recipe, and ``pippin show --yaml``."""

import pytest

from pippin.cli.bench import BenchCommand
from pippin.cli.data import PrepareCommand
from pippin.cli.main import main
from pippin.cli.parsing.options import parse
from pippin.cli.plan import PlanCommand
from pippin.cli.recipe_argument import config_first, find_recipe
from pippin.cli.show import ShowCommand
from pippin.cli.train import TrainCommand
from pippin.recipes.table import get_recipe, load_recipe

RECIPE = "openmoji/mmdit-disentangled"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    recipe = get_recipe(RECIPE)
    recipe.save(folder / "config.json")
    return folder


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_show_writes_a_file_that_reads_back_with_its_options(form, tmp_path, capsys):
    assert main(["show", RECIPE, f"--{form}", "--train.images", "5000"]) == 0
    path = tmp_path / f"mine.{form}"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    recipe = load_recipe(path)
    assert recipe.train.images == 5000
    assert main(["show", "--config", str(path), f"--{form}"]) == 0
    assert capsys.readouterr().out == path.read_text(encoding="utf-8")
    name, found, rest = find_recipe(["--config", str(path), "--seed", "2"])
    assert (name, found, rest) == ("mine", recipe, ["--seed", "2"])


@pytest.mark.parametrize(
    "kind", [TrainCommand, PlanCommand, ShowCommand, BenchCommand, PrepareCommand]
)
def test_options_override_the_file(kind, files):
    words = ["--train.batch-size", "64", "--config", str(files / "config.json"), "--seed=5"]
    name, recipe, rest = find_recipe(config_first(words))
    assert (name, recipe) == (files.name, get_recipe(RECIPE))
    command = parse(kind, "", rest, kind(recipe=recipe))
    assert (command.recipe.train.batch_size, command.recipe.seed) == (64, 5)
    assert command.recipe.train.images == recipe.train.images


def test_where_config_may_stand():
    moved = ["--config", "a.yaml", "--resume", "--seed", "1"]
    assert config_first(["--resume", "--config", "a.yaml", "--seed", "1"]) == moved
    assert config_first(["--resume", "--config=a.yaml", "--seed", "1"]) == moved
    assert config_first(moved) == moved
    for words in ([RECIPE, "--config", "a.yaml"], ["--help"], []):
        assert config_first(words) == words


@pytest.mark.parametrize("verb", [["train"], ["show"], ["plan"], ["bench"], ["data", "prepare"]])
def test_an_unknown_setting_of_the_file_is_refused(verb, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    assert main(["show", RECIPE, "--yaml"]) == 0
    text = capsys.readouterr().out
    path.write_text(text.replace("  depth: 4", "  deepth: 4", 1), encoding="utf-8")
    assert main([*verb, "--config", str(path)]) == 2
    error = capsys.readouterr().err
    assert str(path) in error and "deepth" in error and "near it are depth" in error

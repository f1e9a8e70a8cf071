# SPDX-License-Identifier: Apache-2.0
"""Settings of recipes that are interpretations of the papers, each with its alternative."""

from dataclasses import replace

import pytest

from pippin.cli.main import main
from pippin.config import ConfigError, fingerprint
from pippin.recipes.checks import check_recipe, check_start
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import RECIPES, get_recipe
from pippin.studies.shipped.table import STUDIES, get_study
from pippin.training.config import InitConfig
from pippin.training.train import train

PAPER = [name for name in RECIPES if name.startswith("paper/")]


@pytest.mark.parametrize("name", PAPER)
def test_the_protocol_s_rate_is_the_reading_of_the_paper(name):
    train = get_recipe(name).train
    assert (train.learning_rate, train.batch_size) == (1e-3, 2048)
    assert (train.warmup_images, train.decay_share, train.muon_learning_rate) == (0, 0.0, None)


@pytest.mark.parametrize("scale", ["gpu-hour", "paper"])
def test_the_study_of_rates_begins_with_the_recipes_own_and_has_dit_s(scale):
    study = get_study("learning-rate", scale=scale)
    arms = study.arms()
    assert [arm.train.learning_rate for arm in arms.values()] == [1e-3, 1e-4, 2e-3]
    for arm in arms.values():
        assert (arm.train.muon_learning_rate, arm.train.decay_share) == (None, 0.0)
        assert (arm.diffusion.schedule, arm.diffusion.prediction) == ("sd", "eps")


FINE_TUNED = [name for name in RECIPES if get_recipe(name).init.continues]


def test_recipes_at_512_that_are_fine_tuning_name_what_they_go_on_from():
    expected = {n for n in PAPER if "-512" in n} | {"published/pixart-xl-512"}
    assert set(FINE_TUNED) == expected
    for name in FINE_TUNED:
        before = get_recipe(name).init.continues
        assert before == name.replace("-512", "-256") and before in RECIPES


@pytest.mark.parametrize("name", ["paper/dit-512", "paper/cc12m-mdtv2-512-disentangled"])
def test_fine_tuning_without_weights_is_refused_with_both_ways_out(name, tmp_path):
    recipe = get_recipe(name)
    check_recipe(recipe)  # planned and shown without weights
    with pytest.raises(ConfigError, match=f"run of {recipe.init.continues}") as error:
        train(recipe, tmp_path / "run")
    assert "--init.run FOLDER" in str(error.value) and "--from-scratch True" in str(error.value)
    assert ("--init.transfer positions" in str(error.value)) == ("mdtv2" in name)
    assert not (tmp_path / "run").exists()
    for way in ({"run": "runs/before"}, {"from_scratch": True}):
        check_start(replace(recipe, init=replace(recipe.init, **way)))
    check_start(get_recipe(recipe.init.continues))


def test_scratch_and_weights_exclude_each_other():
    with pytest.raises(ConfigError, match=r"exclude each other; got init\.run runs/a"):
        InitConfig(run="runs/a", from_scratch=True)


def test_scratch_is_refused_where_it_changes_nothing(tmp_path):
    recipe = get_recipe("paper/dit-256")
    recipe = replace(recipe, init=InitConfig(from_scratch=True))
    with pytest.raises(ConfigError, match="starts from initial weights already: leave it out"):
        check_start(recipe)
    with pytest.raises(ConfigError, match="--from-scratch True"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_scratch_is_an_option_of_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["train", "paper/dit-512", "--data.path", "absent"]
    assert main(options) == 2
    assert "--from-scratch True" in capsys.readouterr().err
    assert main([*options, "--from-scratch", "True"]) == 2
    assert "from-scratch" not in (said := capsys.readouterr().err) and "absent" in said


def test_starts_of_studies_are_fine_tuning_that_names_its_weights():
    for name, shipped in STUDIES.items():
        for scale in shipped.scales:
            study = get_study(name, scale=scale)
            for recipe in [*study.arms().values(), *study.starts.values()]:
                check_start(recipe)


def test_older_records_start_as_they_did():
    record = get_recipe("paper/dit-512").to_dict()
    for setting in ("continues", "from_scratch"):
        del record["init"][setting]
    older = Recipe.from_dict(record)
    check_start(older)
    assert fingerprint(older) == fingerprint(get_recipe("paper/dit-512"))

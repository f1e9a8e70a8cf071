# SPDX-License-Identifier: Apache-2.0
"""Help: the common options in groups, all options, and examples."""

import re

import pytest

from pippin.cli.evaluate import EvaluateFolderCommand, EvaluatePresetCommand, EvaluateRunCommand
from pippin.cli.main import VERBS, main
from pippin.cli.parsing.common_options import EVALUATE_OPTIONS, RECIPE_OPTIONS, SAMPLE_OPTIONS
from pippin.cli.parsing.option_table import option_table
from pippin.cli.parsing.options import parse
from pippin.cli.parsing.verb_help import EXAMPLES
from pippin.cli.sample import SampleCommand
from pippin.cli.train import TrainCommand
from pippin.data.config import ImagesConfig
from pippin.evaluation.config import EvaluationConfig
from pippin.recipes.table import RECIPES, get_recipe
from pippin.sampling.config import SamplingConfig

RECIPE = "openmoji/mmdit-disentangled"
EVALUATE = (
    EvaluateRunCommand(evaluation=EvaluationConfig(), sampling=SamplingConfig()),
    EvaluatePresetCommand(
        preset="coco-zero-shot",
        evaluation=EvaluationConfig(),
        sampling=SamplingConfig(),
        data=ImagesConfig(),
    ),
    EvaluateFolderCommand(data=ImagesConfig()),
)


def help_of(capsys, *arguments):
    try:
        code = main([*arguments])
    except SystemExit as stopped:
        code = stopped.code
    assert not code
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)


def names_in(text):
    return set(re.findall(r"(?m)^(?:│ *|  )--([a-z][\w.-]*)", text))


@pytest.mark.parametrize(
    ("groups", "defaults"),
    [
        (RECIPE_OPTIONS, [TrainCommand(recipe=get_recipe(name)) for name in RECIPES]),
        (SAMPLE_OPTIONS, [SampleCommand(sampling=SamplingConfig())]),
        (EVALUATE_OPTIONS, EVALUATE),
    ],
)
def test_every_common_option_exists_and_is_listed_once(groups, defaults):
    known = {}
    for default in defaults:
        known |= option_table(type(default), default)
    names = [name for group in groups.values() for name in group]
    assert set(names) <= set(known)
    assert len(set(names)) == len(names) <= 40


def test_help_of_a_recipe_lists_common_options_and_help_all_lists_all(capsys):
    table = option_table(TrainCommand, TrainCommand(recipe=get_recipe(RECIPE)))
    common = help_of(capsys, "train", RECIPE, "--help")
    for group in ("general", *RECIPE_OPTIONS):
        assert f"\n{group}:\n" in common
    listed = {name for group in RECIPE_OPTIONS.values() for name in group if name in table}
    own = {"folder", "resume", "from-scratch", "allow-changed-data", "text-encoder"}
    own |= {"captioner", "dry-run", "ignore-plan"}
    assert names_in(common) == listed | own
    assert "(default: 200000)" in common
    assert len(common.splitlines()) < 140
    assert not re.search(r"(?m)^ +--\S+( \S+)?\s+\(default", common)  # each has a meaning
    everything = help_of(capsys, "train", RECIPE, "--help-all")
    assert names_in(everything) - {"help"} == set(table)


@pytest.mark.parametrize("name", ["openmoji/unet-entangled", "published/pixart-xl-256"])
def test_the_table_has_the_options_of_the_parser(name, capsys):
    default = TrainCommand(recipe=get_recipe(name))
    with pytest.raises(SystemExit):
        parse(TrainCommand, "", ["--help"], default)
    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert names_in(printed) - {"help"} == set(option_table(TrainCommand, default))


def test_sample_and_evaluate_list_their_options_without_a_run(capsys):
    text = help_of(capsys, "sample", "--help")
    assert {"prompts", "seeds", "steps", "guidance.semantic-scale", "size"} <= names_in(text)
    text = help_of(capsys, "evaluate", "--help")
    assert {"parts", "num-samples", "sampling.steps", "out", "data.path"} <= names_in(text)
    assert "pippin evaluate RUN " in text and "pippin evaluate FOLDER " in text
    assert "drift-pairs" in names_in(help_of(capsys, "evaluate", "--help-all"))


@pytest.mark.parametrize("verb", [*VERBS])
def test_help_ends_with_examples(verb, capsys):
    shown = help_of(capsys, verb, "--help").rstrip().splitlines()
    assert shown[-len(EXAMPLES[verb]) :] == [f"  {example}" for example in EXAMPLES[verb]]


def test_every_verb_has_examples():
    assert set(EXAMPLES) == set(VERBS)

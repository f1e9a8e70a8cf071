# SPDX-License-Identifier: Apache-2.0
"""Boolean options without a value, on every command."""

from dataclasses import dataclass, field, replace

import pytest

from pippin.cli.export import ExportCommand
from pippin.cli.parsing.flags import expand_flags
from pippin.cli.parsing.option_table import option_table
from pippin.cli.parsing.options import parse
from pippin.cli.train import TrainCommand
from pippin.config import replace_at
from pippin.recipes.table import get_recipe

DEFAULT = TrainCommand(recipe=get_recipe("openmoji/mmdit-disentangled"))


def train(*words):
    return parse(TrainCommand, "pippin train", list(words), DEFAULT)


@pytest.mark.parametrize(
    ("words", "resume"),
    [
        ([], False),
        (["--resume"], True),
        (["--no-resume"], False),
        (["--resume", "True"], True),
        (["--resume", "False"], False),
        (["--resume", "true"], True),
        (["--resume=False"], False),
        (["--resume", "auto"], "auto"),
        (["--resume=auto"], "auto"),
        (["--resume", "auto", "--no-resume"], False),
    ],
)
def test_resume_in_all_its_forms(words, resume):
    assert train(*words).resume == resume
    assert train(*words, "--seed", "3").recipe.seed == 3


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("--train.compile", True),
        ("--no-train.compile", False),
        ("--train.no-compile", False),
        ("--train.compile=True", True),
    ],
)
def test_nested_flags(word, value):
    recipe = train("--train.compile", word, "--train.checkpoint_overlap").recipe
    assert recipe.train.compile is value
    assert recipe.train.checkpoint_overlap is True


def test_a_flag_before_positional_arguments_does_not_take_them():
    for words in (
        ["--text-encoder", "run", "out"],
        ["run", "--text-encoder", "out"],
        ["run", "out", "--text-encoder", "True"],
    ):
        command = parse(ExportCommand, "pippin export", words)
        assert (command.run, command.out.name, command.text_encoder) == ("run", "out", True)
    assert not parse(ExportCommand, "", ["--no-text-encoder", "run", "out"]).text_encoder


def test_a_negated_flag_with_a_value_is_refused():
    for words in (["--no-resume", "True"], ["--no-resume=False"]):
        with pytest.raises(ValueError, match=r"--no-resume takes no value, got '(True|False)'"):
            train(*words)


def test_a_wrong_value_is_refused(capsys):
    with pytest.raises(SystemExit):
        train("--train.compile", "maybe")
    assert "maybe" in capsys.readouterr().err


@dataclass(frozen=True, kw_only=True)
class _Inner:
    no_wait: bool = False
    on: bool | None = None


@dataclass(frozen=True, kw_only=True)
class _Command:
    inner: _Inner = field(default_factory=_Inner)
    name: str = ""


def test_names_that_begin_with_no_and_optional_booleans():
    table = option_table(_Command)
    assert expand_flags(["--inner.no-wait"], table) == ["--inner.no-wait", "True"]
    assert expand_flags(["--no-inner.no-wait"], table) == ["--inner.no-wait", "False"]
    assert expand_flags(["--inner.on", "none"], table) == ["--inner.on", "None"]
    assert expand_flags(["--inner.on"], table) == ["--inner.on", "True"]


def test_other_words_stay():
    words = ["--name", "no-x", "--nothing", "--", "--inner.on"]
    assert expand_flags(words, option_table(_Command)) == words


@pytest.mark.parametrize(
    "words",
    [
        ["--sampling.negative-prompt", "None"],
        ["--sampling.negative_prompt=None"],
        ["--seed", "3", "--sampling.negative-prompt=None"],
    ],
)
def test_the_word_none_as_a_negative_prompt_is_refused_by_name(words):
    with pytest.raises(
        ValueError, match=r"negative.prompt None: .* type .* ' None', with a space"
    ):
        train(*words)
    assert train("--sampling.negative-prompt", " None").recipe.sampling.negative_prompt == " None"
    assert train("--sampling.negative-prompt", "none").recipe.sampling.negative_prompt == "none"


def test_none_unsets_a_recorded_negative_prompt():
    recorded = replace(DEFAULT, recipe=replace_at(DEFAULT.recipe, "sampling.negative_prompt", "x"))
    parsed = parse(TrainCommand, "", ["--sampling.negative-prompt", "None"], recorded)
    assert parsed.recipe.sampling.negative_prompt is None

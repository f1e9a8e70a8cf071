# SPDX-License-Identifier: Apache-2.0
"""Every ``pippin`` command of the guides, concepts and first steps is understood as printed."""

import re
import shlex
from pathlib import Path

import pytest
from example_programs import imported_examples

from pippin.bench.config import AgainstConfig
from pippin.cli.autoencoder import MeasureAutoencoderCommand, TrainAutoencoderCommand
from pippin.cli.average import AverageCommand
from pippin.cli.bench_scaling import ScalingCommand
from pippin.cli.cache import ClearCommand, ListCommand
from pippin.cli.completion import SCRIPTS, verb_options
from pippin.cli.convert import ConvertCommand
from pippin.cli.data import ImportCommand, PrepareCommand
from pippin.cli.data_check import CheckCommand
from pippin.cli.evaluate import EvaluateFolderCommand, EvaluateRunCommand
from pippin.cli.export import ExportCommand
from pippin.cli.fetch import FetchCommand
from pippin.cli.main import VERBS as VERBS_OF_THE_PROGRAM
from pippin.cli.parsing.option_table import option_table
from pippin.cli.parsing.options import chosen_data, parse
from pippin.cli.parsing.verb_help import EXAMPLES, SHARED_FLAGS
from pippin.cli.plan import PlanCommand
from pippin.cli.plan_study import PlanStudyCommand
from pippin.cli.play import PlayCommand
from pippin.cli.push import PushCommand
from pippin.cli.recaption import RecaptionCommand
from pippin.cli.recipe_argument import find_recipe
from pippin.cli.reference import ReferenceCommand
from pippin.cli.report import ReportCommand
from pippin.cli.runs import RunsCommand
from pippin.cli.sample import SampleCommand
from pippin.cli.study import StudyCommand
from pippin.cli.train import TrainCommand
from pippin.data.config import ImagesConfig
from pippin.data.importing.config import ImportConfig
from pippin.recipes.checks import check_recipe
from pippin.recipes.table import get_recipe
from pippin.studies.shipped.table import STUDIES

DOCS = Path(__file__).parents[1] / "docs"
FOLDERS = ("get-started", "guides", "concepts")
ALL_PAGES = [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]
PAGES = [page for folder in FOLDERS for page in sorted((DOCS / folder).glob("*.md"))]
TEXT = get_recipe("openmoji/mmdit-disentangled-text")
"""Stands for whatever run a page samples or measures: it has every option."""


def options_of(kind: type) -> list[str]:
    return [f"--{name}" for name in option_table(kind)]


MORE_OPTIONS = {
    "autoencoder": [f"--data.{name}" for name in option_table(ImagesConfig)],
    "bench": [
        *("--against", "--compare", "--scaling"),
        *(*options_of(AgainstConfig), *options_of(ScalingCommand)),
    ],
    "plan": ["--study", *options_of(PlanStudyCommand)],
}
"""Options that depend on other words of the command."""


def is_option(word: str) -> bool:
    return re.match(r"--[a-z]", word) is not None


def blocks_of(text: str) -> list[str]:
    """Indented blocks and those fenced as bash, without their indentation."""
    fenced = re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)
    return fenced + re.findall(r"(?:^ {4,}\S.*\n)+", text, re.M)


def commands_of(page: Path) -> list[list[str]]:
    """Arguments of each command, with continued lines joined and the variables of its block."""
    commands = []
    for block in blocks_of(page.read_text(encoding="utf-8")):
        code = re.sub(r"\\\n\s*", " ", block)
        for name, value in re.findall(r'^(\w+)=("[^"]*"|\S+)$', code, re.M):
            code = code.replace(f"${name}", " ".join(value.strip('"').split()))
        for line in code.splitlines():
            words = shlex.split(line, comments=True) if re.search(r"pippin \w", line) else []
            words = words[: words.index(">")] if ">" in words else words
            if match := re.search(r"slurm\.sbatch (\w+/.*?)\)?$", line.strip()):
                words = ["pippin", "train", *shlex.split(match[1])]  # the script's arguments
            starts = [place for place, word in enumerate(words) if word.endswith("pippin")]
            if starts and "--help" not in words:
                commands.append(words[starts[0] + 1 :])
    return commands


def train(words: list[str]) -> None:
    _, recipe, rest = find_recipe(words)
    command = parse(TrainCommand, "", rest, TrainCommand(recipe=recipe))
    check_recipe(command.recipe)
    continued = get_recipe(recipe.init.continues) if recipe.init.continues else None
    if continued is not None and command.recipe.init.run:
        assert type(continued.denoiser) is type(recipe.denoiser)


def plan(words: list[str]) -> None:
    if words[0] == "--study":
        assert words[1] in STUDIES
        return
    _, recipe, rest = find_recipe(words)
    parse(PlanCommand, "", rest, PlanCommand(recipe=recipe))


def fetch(words: list[str]) -> None:
    _, recipe, rest = find_recipe(words)
    parse(FetchCommand, "", rest, FetchCommand(recipe=recipe))


def study(words: list[str]) -> None:
    if words != ["list"]:
        command = parse(StudyCommand, "", words[2:], StudyCommand())
        assert words[0] == "run" and words[1] in STUDIES
        assert command.scale is None or command.scale in STUDIES[words[1]].scales


def sample(words: list[str]) -> None:
    rest = words if words[0].startswith("-") else words[1:]
    rest = [word.replace("--sampling.", "--") for word in rest]
    parse(SampleCommand, "", rest, SampleCommand(sampling=TEXT.sampling))


def evaluate(words: list[str]) -> None:
    if "--preset" in words:
        return
    default = EvaluateRunCommand(evaluation=TEXT.evaluation, sampling=TEXT.sampling)
    if words[0].startswith("runs/"):
        parse(EvaluateRunCommand, "", words[1:], default)
    else:
        folder = EvaluateFolderCommand(data=chosen_data(words[1:]))
        parse(EvaluateFolderCommand, "", words[1:], folder)


def data(words: list[str]) -> None:
    verb, what, *rest = words
    if verb == "check":
        parse(CheckCommand, "", rest, CheckCommand(data=ImagesConfig(path=what)))
    elif verb == "import":
        parse(ImportCommand, "", rest, ImportCommand(what=ImportConfig(source=what)))
    elif verb == "recaption":
        parse(RecaptionCommand, "", rest)
    else:
        _, recipe, rest = find_recipe(words[1:])
        parse(PrepareCommand, "", rest, PrepareCommand(recipe=recipe))


def autoencoder(words: list[str]) -> None:
    kind = {"train": TrainAutoencoderCommand, "measure": MeasureAutoencoderCommand}[words[0]]
    parse(kind, "", words[1:], kind(data=chosen_data(words[1:])))


def cache(words: list[str]) -> None:
    kind = {"list": ListCommand, "clear": ClearCommand}[words[0]]
    parse(kind, "", words[1:])


def completion(words: list[str]) -> None:
    assert set(words) <= set(SCRIPTS)


WHOLE = {
    "runs": RunsCommand,
    "convert": ConvertCommand,
    "export": ExportCommand,
    "average": AverageCommand,
    "play": PlayCommand,
    "push": PushCommand,
    "report": ReportCommand,
    "reference": ReferenceCommand,
}
VERBS = {
    "train": train,
    "plan": plan,
    "fetch": fetch,
    "study": study,
    "sample": sample,
    "evaluate": evaluate,
    "data": data,
    "autoencoder": autoencoder,
    "cache": cache,
    "completion": completion,
    "show": lambda words: words[0].startswith("hf://") or find_recipe(words),
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_commands_are_understood(page):
    for verb, *words in commands_of(page):
        with imported_examples(words) as rest:
            rest = [word for word in rest if word not in SHARED_FLAGS]
            if verb in WHOLE:
                parse(WHOLE[verb], "", rest)
            elif verb != "demo":
                VERBS[verb](rest)


@pytest.mark.parametrize("verb", [*EXAMPLES])
def test_examples_of_the_help_are_understood(verb):
    for example in EXAMPLES[verb]:
        words = shlex.split(example.partition(">")[0])
        assert words[:2] == ["pippin", verb]
        if words[2:4] == ["--config", "mine.yaml"]:
            words[2:4] = ["openmoji/mmdit-disentangled"]
        if verb in WHOLE:
            parse(WHOLE[verb], "", words[2:])
        elif verb in VERBS:
            VERBS[verb](words[2:])


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_options_exist(page):
    """Also those of incomplete commands within sentences, and of reference pages."""
    text = page.read_text(encoding="utf-8")
    spans = [span.split() for span in re.findall(r"`pippin ([^`]+)`", text)]
    for verb, *words in [*spans, *commands_of(page)]:
        assert verb in VERBS_OF_THE_PROGRAM, verb
        known = {*verb_options(verb), *MORE_OPTIONS.get(verb, ())}
        options = {word.partition("=")[0].replace("_", "-") for word in words if is_option(word)}
        assert options <= known, (verb, options - known)


def test_the_pages_have_commands():
    commands = [command for page in PAGES for command in commands_of(page)]
    assert len(PAGES) >= 17
    assert len(commands) >= 100
    assert ["sample", "--prompts", "smiling cat", "--seeds", "0:4"] in commands
    assert any("--init.run" in command and "positions" in command for command in commands)
    of_slurm = blocks_of((DOCS / "guides/offline-clusters.md").read_text(encoding="utf-8"))
    assert sum(block.count("slurm.sbatch") for block in of_slurm) >= 4
    page = commands_of(DOCS / "guides/offline-clusters.md")
    assert sum("--train.gradient-checkpointing" in command for command in page) >= 4

# SPDX-License-Identifier: Apache-2.0
"""``pippin sample RUN --labels ... --control.flip False --seeds 0:64``."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pippin.cli.options import DataPlace, parse, parse_seeds
from pippin.sampling.config import SamplingConfig
from pippin.system.terminal import say
from pippin.system.text import argument_text, read_entries

if TYPE_CHECKING:
    from pippin.run.load import LoadedRun
    from pippin.types import Prompt


TEXT_MODEL = "pippin/emoji-mmdit-text"
"""The shipped model of text."""


@dataclass(frozen=True, kw_only=True)
class SampleCommand:
    """Draw images from a run: PNGs, a grid and a manifest with the protocol.

    Images that are there already are kept: the same command goes on after a stop, and other
    seeds or classes are added. Another protocol needs another folder. Under torchrun several
    processes share the images, each on its card.
    """

    sampling: Annotated[SamplingConfig, tyro.conf.arg(name="")]
    labels: tuple[str, ...] = ()
    """Classes by name or number, used in turn; none given = all classes in turn."""
    prompts: tuple[str, ...] = ()
    """For a model of text: captions, used in turn."""
    prompts_file: Path | None = None
    """A text file with one prompt a line: UTF-8, or UTF-16 with a byte order mark. Empty lines are
    skipped."""
    text_source: tuple[str, ...] = ()
    """For a converted model of text: where its text encoders are; see text.source of recipes."""
    text_combine: Literal["features", "sd3"] | None = None
    """How the features of several encoders become one, where it is not as the recipe says."""
    data: DataPlace = field(default_factory=DataPlace)
    """Sampling opens images only for --control.ask training, or to name the classes of a model
    that an older version made."""
    autoencoder: str | None = None
    """Folder or name of the autoencoder, if it is not where the model was trained."""
    seeds: str = "0:64"
    """0:64 (64 left out), 7, or 1,5,9."""
    out: Path | None = None
    """Folder for the images; default RUN/samples, and samples/NAME for a shipped model."""


def main(argv: list[str]) -> int:
    """Parse, load, sample, write."""
    if not argv or argv[0] in ("-h", "--help"):
        say("usage: pippin sample [RUN] [options]      pippin sample RUN --help shows them")
        say("RUN: a run folder, an exported folder or the name of a shipped model")
        say(f"without RUN, {TEXT_MODEL} draws --prompts")
        return 0 if argv else 2
    from pippin.run.trained import SHIPPED_PREFIX, trained_recipe, trained_sampling

    source, rest = (TEXT_MODEL, argv) if argv[0].startswith("-") else (argv[0], argv[1:])
    recipe = trained_recipe(source)
    default = SampleCommand(sampling=trained_sampling(source, recipe))
    rest = [f"--{x[11:]}" if x.startswith("--sampling.") else x for x in rest]  # as of a recipe
    command = parse(SampleCommand, "pippin sample RUN", rest, default)
    seeds = parse_seeds(command.seeds)
    sampling = command.sampling
    if sampling.negative_prompt is not None:
        sampling = replace(sampling, negative_prompt=argument_text(sampling.negative_prompt))

    from pippin.run.crew import assembled, own_card
    from pippin.run.load import load_run
    from pippin.run.sample import different_rows, draw_into, help_drawing, sample_rows
    from pippin.run.sample_folder import GRID

    if command.text_combine and not command.text_source:
        raise ValueError("--text-combine says how encoders are joined: give --text-source too")
    if command.text_source:
        combine = command.text_combine or recipe.text.combine
        text = replace(recipe.text, source=command.text_source, combine=combine)
        recipe = replace(recipe, text=text)
    recipe = own_card(recipe)
    with assembled(recipe) as crew:
        run = load_run(
            source,
            sampling.weights,
            recipe=recipe,
            crew=crew,
            data_path=command.data.path,
            autoencoder=command.autoencoder,
        )
        if not crew.world.first:
            help_drawing(run)
            return 0
        wanted = _wanted(run, command)
        if line := _unequal(len(wanted), len(seeds), command):
            say(line, error=True)
        prompts = [wanted[place % len(wanted)] for place in range(len(seeds))]
        count = len(different_rows(sample_rows(run, prompts, seeds)))
        out = command.out or (
            Path("samples") / source.removeprefix(SHIPPED_PREFIX)
            if source.startswith(SHIPPED_PREFIX)
            else Path(source) / "samples"
        )
        draw_into(run, prompts, seeds, sampling, out)
    images = f"{count} image{'' if count == 1 else 's'}"
    say(f"{images} in {out}, drawn by {run.said}; grid: {out / GRID}")
    return 0


def _wanted(run: "LoadedRun", command: SampleCommand) -> "list[Prompt]":
    """What is asked for in turn.

    Raises:
        ValueError: classes of a model of text, text of a model of classes, or no text.
    """
    texts = list(map(argument_text, command.prompts))
    if command.prompts_file is not None:
        listed = read_entries(command.prompts_file)
        if not listed:
            raise ValueError(f"{command.prompts_file} has no prompts: write one a line")
        texts += listed
    if run.parts.text_rule is None:
        if texts:
            raise ValueError("this model reads classes, not text: use --labels")
        labels: list[Prompt] = [run.label_id(argument_text(one)) for one in command.labels]
        return labels or list(range(run.num_classes))
    if command.labels:
        raise ValueError("this model reads text, not classes: use --prompts")
    if not texts:
        raise ValueError('this model reads text: give --prompts "a red apple" ..., or a file')
    return list(texts)


def _unequal(wanted: int, seeds: int, command: SampleCommand) -> str | None:
    """What to say where prompts or labels that were given are not as many as the seeds."""
    given = bool(command.prompts or command.prompts_file or command.labels)
    if not given or wanted == seeds:
        return None
    what = "labels" if command.labels else "prompts"
    if wanted > seeds:
        return (
            f"note: {wanted} {what} for {seeds} images: the last {wanted - seeds} are not used; "
            f"--seeds 0:{wanted} draws one image of each"
        )
    each, more = divmod(seeds, wanted)
    often = f"{each} or {each + 1} times" if more else f"{each} times"
    return f"note: {wanted} {what} for {seeds} images: each is used {often}, in turn"

# SPDX-License-Identifier: Apache-2.0
"""``pippin sample RUN --labels ... --control.flip False --seeds 0:64``."""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pippin.cli.parsing.common_options import SAMPLE_OPTIONS
from pippin.cli.parsing.options import DataLocation, parse, parse_seeds
from pippin.cli.parsing.text_source_option import TextSourceOption
from pippin.cli.parsing.verb_help import HELP
from pippin.sampling.config import SamplingConfig
from pippin.system.text import argument_text, print_text, read_entries

if TYPE_CHECKING:
    from pippin.sampling.load import LoadedRun
    from pippin.types import Prompt


TEXT_MODEL = "pippin/emoji-mmdit-text"
"""The shipped text-to-image model."""


@dataclass(frozen=True, kw_only=True)
class SampleCommand(TextSourceOption):
    """Sample images from a run: PNGs, a grid and a manifest with the protocol.

    Existing images are kept: the same command resumes after a stop, and other seeds or classes are
    added. Images of other settings go to a folder of their own, RUN/samples-SOLVER-STEPS-ID. Under
    torchrun the images are distributed over the ranks, each on its GPU.
    """

    sampling: Annotated[SamplingConfig, tyro.conf.arg(name="")]
    labels: tuple[str, ...] = ()
    """Classes by name or number, used in turn; default all classes."""
    prompts: tuple[str, ...] = ()
    """For a text-to-image model: prompts, used in turn."""
    prompts_file: Path | None = None
    """Text file with one prompt per line, in UTF-8, or UTF-16 with a byte order mark. Empty lines
    are skipped."""
    checkpoint: int | None = None
    """Images seen of the checkpoint; default the newest intact one."""
    data: DataLocation = field(default_factory=DataLocation)
    """Images, needed only for --control.ask training, or to name the classes of a model made by an
    older version."""
    autoencoder: str | None = None
    """Folder or name of the autoencoder, if it has moved since training."""
    seeds: str = "0:64"
    """0:64 (64 excluded), 7, or 1,5,9."""
    out: Path | None = None
    """Output folder, of one protocol; default RUN/samples, samples/NAME for a shipped model and
    samples/USER/NAME for one of the hub, or where that holds images of other settings, the same
    with -SOLVER-STEPS-ID."""


def main(argv: list[str]) -> int:
    """Parse, load, sample, save."""
    if not argv or argv[0] in HELP:
        return _print_help(argv)
    from pippin.runs.hub_source import pin_source
    from pippin.runs.trained import trained_recipe, trained_sampling

    source, rest = (TEXT_MODEL, argv) if argv[0].startswith("-") else (argv[0], argv[1:])
    source = pin_source(source)
    recipe = trained_recipe(source)
    default = SampleCommand(sampling=trained_sampling(source, recipe))
    rest = [f"--{x[11:]}" if x.startswith("--sampling.") else x for x in rest]  # as in a recipe
    command = parse(SampleCommand, "pippin sample RUN", rest, default, SAMPLE_OPTIONS)
    seeds = parse_seeds(command.seeds)
    sampling = command.sampling
    if sampling.guide is not None:
        sampling = replace(sampling, guide=pin_source(sampling.guide))
    if sampling.negative_prompt is not None:
        sampling = replace(sampling, negative_prompt=argument_text(sampling.negative_prompt))

    from pippin.sampling.group import join_sampling_group, with_local_device
    from pippin.sampling.load import load_run
    from pippin.sampling.sample import draw_into, sample_as_worker, sample_rows, unique_rows
    from pippin.sampling.sample_folder import GRID

    recipe = replace(recipe, text=command.with_text_source(recipe.text))
    recipe = with_local_device(recipe)
    with join_sampling_group(recipe) as sampling_group:
        run = load_run(
            source,
            sampling.weights,
            recipe=recipe,
            sampling_group=sampling_group,
            data_path=command.data.path,
            autoencoder=command.autoencoder,
            checkpoint=command.checkpoint,
        )
        if not sampling_group.world.is_rank0:
            sample_as_worker(run)
            return 0
        requested = _requested(run, command)
        lines = _slow_note(run, sampling), _count_note(len(requested), len(seeds), command)
        for line in filter(None, lines):
            print_text(line, error=True)
        prompts = [requested[index % len(requested)] for index in range(len(seeds))]
        count = len(unique_rows(sample_rows(run, prompts, seeds)))
        out = command.out or _default_folder(run, source, sampling)
        draw_into(run, prompts, seeds, sampling, out)
    images = f"{count} image{'' if count == 1 else 's'}"
    print_text(f"{images} in {out}, sampled from {run.description}; grid: {out / GRID}")
    return 0


def _default_folder(run: "LoadedRun", source: str, sampling: SamplingConfig) -> Path:
    """Folder of samples without --out, with a note if it is not the usual one."""
    from pippin.encoders.config import SHIPPED_PREFIX
    from pippin.runs.hub_source import is_hub_source, parse_hub_source
    from pippin.sampling.sample import sampling_protocol
    from pippin.sampling.sample_folder import free_samples_path

    usual = Path(source) / "samples"
    if source.startswith(SHIPPED_PREFIX):
        usual = Path("samples") / source.removeprefix(SHIPPED_PREFIX)
    elif is_hub_source(source):
        usual = Path("samples") / parse_hub_source(source).name
    folder = free_samples_path(usual, sampling_protocol(run, sampling))
    if folder != usual:
        note = f"note: {usual} holds images of other settings; these images go to {folder}"
        print_text(note, error=True)
    return folder


def _print_help(argv: list[str]) -> int:
    """Print the options with the defaults of the classes, as no run is given."""
    if argv:
        default = SampleCommand(sampling=SamplingConfig())
        with suppress(SystemExit):
            parse(SampleCommand, "pippin sample [RUN]", argv, default, SAMPLE_OPTIONS)
    else:
        print_text("usage: pippin sample [RUN] [options]      pippin sample --help lists them")
    print_text("\nRUN: a run folder, an exported folder, a shipped model or hf://USER/NAME")
    print_text(f"without RUN, {TEXT_MODEL} generates images of --prompts")
    print_text("`pippin sample RUN --help` shows the defaults of a run")
    return 0 if argv else 2


def _requested(run: "LoadedRun", command: SampleCommand) -> "list[Prompt]":
    """Prompts or labels that are used in turn.

    Raises:
        ValueError: labels for a text-to-image model, text for a class-conditional one, or no text.
    """
    texts = list(map(argument_text, command.prompts))
    if command.prompts_file is not None:
        entries = read_entries(command.prompts_file)
        if not entries:
            raise ValueError(f"{command.prompts_file} has no prompts: write one per line")
        texts += entries
    if run.components.text_rule is None:
        if texts:
            raise ValueError("this model reads classes, not text: use --labels")
        labels: list[Prompt] = [run.label_id(argument_text(label)) for label in command.labels]
        return labels or list(range(run.num_classes))
    if command.labels:
        raise ValueError("this model reads text, not classes: use --prompts")
    if not texts:
        raise ValueError(
            'this model reads text: give --prompts "a red apple" ..., or --prompts-file FILE'
        )
    return list(texts)


def _slow_note(run: "LoadedRun", sampling: SamplingConfig) -> str | None:
    """Note on bf16 on a CPU that emulates it."""
    from pippin.system.device import slow_bf16_note

    note = slow_bf16_note(run.components.device, "sampling.precision", sampling.precision)
    return None if note is None else f"note: {note}"


def _count_note(requested: int, seeds: int, command: SampleCommand) -> str | None:
    """Note if the numbers of given prompts or labels and of seeds differ."""
    has_conditions = bool(command.prompts or command.prompts_file or command.labels)
    if not has_conditions or requested == seeds:
        return None
    kind = "labels" if command.labels else "prompts"
    if requested > seeds:
        return (
            f"note: {requested} {kind} for {seeds} images: the last {requested - seeds} are not "
            f"used; --seeds 0:{requested} samples one image of each"
        )
    times, remainder = divmod(seeds, requested)
    often = f"{times} or {times + 1} times" if remainder else f"{times} times"
    return f"note: {requested} {kind} for {seeds} images: each is used {often}, in turn"

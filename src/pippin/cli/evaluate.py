# SPDX-License-Identifier: Apache-2.0
"""``pippin evaluate RUN [--preset NAME]`` and ``pippin evaluate FOLDER [--reference FILE]``."""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from pippin.cli.parsing.common_options import EVALUATE_OPTIONS
from pippin.cli.parsing.flags import parse_integer
from pippin.cli.parsing.options import DataLocation, chosen_data, parse
from pippin.cli.parsing.verb_help import HELP
from pippin.data.config import DataConfig, ImagesConfig, OpenMojiConfig, check_squares
from pippin.distributed.ranks import get_world_size, is_rank0
from pippin.encoders.config import HUB_PREFIX
from pippin.evaluation.config import PRESETS, EvaluationConfig, PresetName
from pippin.sampling.config import SamplingConfig
from pippin.system.text import plain_text, print_text

if TYPE_CHECKING:
    from pippin.runs.folder import RunFolder

EVALUATED = Path("evaluated")
"""Folder of the results of hub models, which have no folder of their own."""
COMMIT_DIGITS = 8
"""Digits of a commit in a folder's name."""


USAGE = f"""usage: pippin evaluate RUN_OR_FOLDER [options]
       pippin evaluate hf://USER/NAME --data.path FOLDER ...
       pippin evaluate RUN --preset {"|".join(PRESETS)} --data.path FOLDER ...
       pippin evaluate --help lists the options; with RUN, its own defaults"""


@dataclass(frozen=True, kw_only=True)
class _OfRunCommand:
    evaluation: Annotated[EvaluationConfig, tyro.conf.arg(name="")]
    sampling: SamplingConfig
    checkpoint: str | None = None
    """Images seen of the checkpoint, or all, one after the other; default the newest intact one.
    The results of a chosen checkpoint are in evaluation/checkpoint-N of the run."""
    autoencoder: str | None = None
    """Folder or name of the autoencoder, if it has moved since training."""


@dataclass(frozen=True, kw_only=True)
class EvaluateRunCommand(_OfRunCommand):
    """Evaluate a run: held-out loss, sample quality, control drift and effect. Under torchrun
    sampling is distributed over the ranks."""

    data: DataLocation = field(default_factory=DataLocation)
    """The run's training and held-out images."""


@dataclass(frozen=True, kw_only=True)
class EvaluatePresetCommand(_OfRunCommand):
    """Evaluate a text-to-image run zero-shot on the captions of another folder."""

    preset: PresetName
    data: ImagesConfig
    """The folder: one caption per image. Images and samples are compared at data.resolution."""


@dataclass(frozen=True, kw_only=True)
class EvaluateFolderCommand:
    """Evaluate a folder of images, or a .npz of them (arr_0), against the clean images of a data
    set, or against --reference."""

    evaluation: Annotated[EvaluationConfig, tyro.conf.arg(name="")] = field(
        default_factory=EvaluationConfig
    )
    data: DataConfig = field(default_factory=OpenMojiConfig)
    """The reference: OpenMoji, or with --data.path FOLDER a custom data set. data.resolution is
    the side of its images before feature extraction."""
    device: str = "auto"
    out: Path | None = None
    """JSON Lines file to which the measures are appended. Default: FOLDER/results.jsonl if `pippin
    sample` made the folder; nothing is written into other folders."""


def main(argv: list[str]) -> int:
    """Parse, evaluate, print and record."""
    if not argv or argv[0] in HELP:
        print_text(USAGE)
        _print_options(argv)
        return 0 if argv else 2
    folder, rest = Path(argv[0]), argv[1:]
    if argv[0].startswith(HUB_PREFIX):
        _hub_model(argv[0], rest)
        return 0
    if not folder.is_dir() and (folder.suffix != ".npz" or not folder.is_file()):
        raise ValueError(
            f"{folder} does not exist; give a run folder, a folder of images or a .npz of them"
        )
    preset = _preset_name(rest)
    from pippin.runs.folder import SHARED_WEIGHTS_FILE, RunFolder

    names = ("config.json", SHARED_WEIGHTS_FILE)
    is_run = preset is not None or any((folder / name).exists() for name in names)
    if is_run:
        _run(str(folder), RunFolder(folder), preset, rest)
        return 0
    result = _folder(folder, rest)
    if result is None:  # a rank other than 0
        return 0
    measures, out = result

    from pippin.evaluation.runs.recording import write_results

    _print_table(measures)
    if out is None:
        print_text("not recorded; give --out FILE to save these numbers with their protocols")
        return 0
    write_results(measures, out)
    print_text(f"recorded with full protocols: {out}")
    return 0


def _print_options(argv: list[str]) -> None:
    """Print the options with the defaults of the classes, as no folder is given."""
    run = EvaluateRunCommand(evaluation=EvaluationConfig(), sampling=SamplingConfig())
    for default, subject in (run, "RUN"), (EvaluateFolderCommand(data=ImagesConfig()), "FOLDER"):
        if argv:
            print_text()
            with suppress(SystemExit):
                prog = f"pippin evaluate {subject}"
                parse(type(default), prog, argv, default, EVALUATE_OPTIONS)


def _hub_model(source: str, arguments: list[str]) -> None:
    """Evaluate a model of the hub; its results go to ``evaluated/USER/NAME/COMMIT``."""
    from pippin.runs.folder import RunFolder
    from pippin.runs.hub_source import parse_hub_source, pin_source

    pinned = pin_source(source)
    hub = parse_hub_source(pinned)
    place = RunFolder(EVALUATED / hub.name / str(hub.revision)[:COMMIT_DIGITS])
    _run(pinned, place, _preset_name(arguments), arguments)


def _run(source: str, place: "RunFolder", preset: PresetName | None, arguments: list[str]) -> None:
    """Evaluate a run, or its checkpoints one after the other; rank 0 prints and records.

    Of all checkpoints, those are skipped that are damaged, or that training removes meanwhile.

    Args:
        source: a run or an exported model.
        place: folder of the results; that of the run itself.
        preset: name of a zero-shot evaluation; None = the run's own.
        arguments: options.

    Raises:
        CheckpointError: the chosen checkpoint is unusable, or the last one of all.
    """
    from pippin.runs.checkpoint import CheckpointError
    from pippin.runs.hub_source import pin_source
    from pippin.runs.trained import trained_recipe, trained_sampling

    recipe = trained_recipe(source)
    default: EvaluateRunCommand | EvaluatePresetCommand = EvaluateRunCommand(
        evaluation=recipe.evaluation, sampling=trained_sampling(source, recipe)
    )
    if preset is not None:
        default = _preset_command(preset, default.sampling)
    prog = "pippin evaluate RUN"
    command = parse(type(default), prog, arguments, default, EVALUATE_OPTIONS)
    if command.sampling.guide is not None:
        guide = pin_source(command.sampling.guide)  # of one commit for all checkpoints
        command = replace(command, sampling=replace(command.sampling, guide=guide))
    chosen = _chosen_checkpoints(place, command.checkpoint)
    for checkpoint in chosen:
        try:
            measures = _measures(source, place, command, checkpoint)
        except CheckpointError as error:
            if checkpoint == chosen[-1]:
                raise
            print_text(f"skipped: {error}", error=True)
            continue
        if measures is None:  # a rank other than 0
            continue
        target = place if checkpoint is None else place.at_checkpoint(checkpoint)
        if checkpoint is not None:
            print_text(f"checkpoint at {checkpoint} images:")
        _print_table(measures)
        print_text(f"recorded with full protocols: {target.results}")


def _chosen_checkpoints(place: "RunFolder", text: str | None) -> list[int | None]:
    """Images seen of the checkpoints that --checkpoint chooses, in order; None = the newest.

    Raises:
        ValueError: neither a number nor all, no checkpoint, or all under torchrun.
    """
    from pippin.runs.checkpoint_folders import list_checkpoints

    if text is None:
        return [None]
    if text != "all":
        try:
            return [parse_integer(text)]
        except ValueError as error:
            raise ValueError(
                f"--checkpoint must be the images seen of a checkpoint, or all; got {text!r}"
            ) from error
    if get_world_size() > 1:
        raise ValueError(
            "--checkpoint all evaluates in one process; under torchrun give one checkpoint at a "
            "time, such as --checkpoint 50000"
        )
    checkpoints = list_checkpoints(place.checkpoints)
    if not checkpoints:
        raise ValueError(f"{place.path} has no checkpoints; leave --checkpoint all out")
    return [int(path.name) for path in reversed(checkpoints)]


def _measures(
    source: str,
    place: "RunFolder",
    command: EvaluateRunCommand | EvaluatePresetCommand,
    checkpoint: int | None,
) -> list[dict[str, Any]] | None:
    """Measures of one checkpoint; None on ranks other than 0, which only sample."""
    from pippin.evaluation.runs.evaluate import evaluate_run, run_protocol
    from pippin.evaluation.runs.recording import with_fingerprints
    from pippin.evaluation.runs.zero_shot import evaluate_zero_shot
    from pippin.runs.trained import trained_recipe
    from pippin.sampling.group import join_sampling_group, with_local_device
    from pippin.sampling.load import load_run
    from pippin.sampling.sample import sample_as_worker

    recipe = replace(
        trained_recipe(source), evaluation=command.evaluation, sampling=command.sampling
    )
    recipe = with_local_device(recipe)
    with join_sampling_group(recipe) as sampling_group:
        own = None if isinstance(command, EvaluatePresetCommand) else command.data.path
        run = load_run(
            source,
            recipe.sampling.weights,
            recipe=recipe,
            sampling_group=sampling_group,
            data_path=own,
            autoencoder=command.autoencoder,
            checkpoint=checkpoint,
        )
        if not sampling_group.world.is_rank0:
            sample_as_worker(run)
            return None
        folder = place.path if checkpoint is None else place.at_checkpoint(checkpoint).path
        if isinstance(command, EvaluatePresetCommand):
            measures = evaluate_zero_shot(run, command.data, folder, command.preset)
        else:
            measures = evaluate_run(run, folder)
    return with_fingerprints(measures, run_protocol(run))


def _preset_name(arguments: list[str]) -> PresetName | None:
    """Value of --preset, read first because the defaults of other options depend on it."""
    for position, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option == "--preset":
            preset = value if equals else next(iter(arguments[position + 1 :]), "")
            for name in PRESETS:
                if name == preset:
                    return name
            raise ValueError(f"unknown preset {preset!r}; choose from: {', '.join(PRESETS)}")
    return None


def _preset_command(name: PresetName, sampling: SamplingConfig) -> EvaluatePresetCommand:
    preset = PRESETS[name]
    return EvaluatePresetCommand(
        preset=name,
        data=preset.data,
        evaluation=preset.evaluation,
        sampling=replace(sampling, steps=preset.steps),
    )


def _folder(folder: Path, arguments: list[str]) -> tuple[list[dict[str, Any]], Path | None] | None:
    """Measures of a folder and the file that records them; None on ranks other than 0, which do
    nothing."""
    default = EvaluateFolderCommand(data=chosen_data(arguments))
    prog = "pippin evaluate FOLDER"
    command = parse(EvaluateFolderCommand, prog, arguments, default, EVALUATE_OPTIONS)

    data_options = [argument for argument in arguments if argument.startswith("--data.")]
    if command.evaluation.reference_kind == "file" and data_options:
        raise ValueError(f"{data_options[0]} has no effect with --reference; remove one of them")
    check_squares(command.data, "pippin evaluate FOLDER")
    if not is_rank0():
        return None
    if get_world_size() > 1:
        print_text("a folder is evaluated by rank 0 only; other ranks exit", error=True)

    from pippin.evaluation.runs.evaluate_folder import (
        evaluate_against,
        evaluate_folder,
        folder_protocol,
        reference_protocol,
    )
    from pippin.evaluation.runs.recording import with_fingerprints
    from pippin.sampling.sample_folder import MANIFEST
    from pippin.system.device import resolve_device

    device, config = resolve_device(command.device), command.evaluation
    if config.reference_kind == "file":
        other = Path(config.reference)
        config = replace(config, reference="train")  # the measures name the file's content
        measures = evaluate_against(folder, other, config, device)
        protocol = reference_protocol(config)
    else:
        measures = evaluate_folder(folder, command.data, config, device)
        protocol = folder_protocol(command.data, config)
    own = folder / "results.jsonl" if (folder / MANIFEST).exists() else None
    return with_fingerprints(measures, protocol), command.out or own


def _print_table(measures: list[dict[str, Any]]) -> None:
    from rich.table import Column, Table

    from pippin.cli.tables import print_table

    columns = ("measure", "of", "value", "95 % interval", "N", "better", "protocol")
    table = Table(*(Column(name, no_wrap=True) for name in columns))
    for measure in measures:
        low, high, value = measure["low"], measure["high"], measure["value"]
        interval = "" if low is None else f"{low:.4g} to {high:.4g} ({measure['interval_over']})"
        number = "not finite" if value is None else f"{value:.4g}"
        cells = (
            *(measure["name"], measure["subject"], number, interval),
            *(str(measure["n"]), measure["better"]),
        )
        table.add_row(*map(plain_text, cells), measure["fingerprint"])
    print_table(table)

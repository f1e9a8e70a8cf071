# SPDX-License-Identifier: Apache-2.0
"""``pippin evaluate RUN``, with a preset or without, and ``pippin evaluate FOLDER``, with a
reference or without."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from pippin.cli.options import DataPlace, chosen_data, parse
from pippin.data.config import DataConfig, ImagesConfig, OpenMojiConfig, check_squares
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.presets import PRESETS, PresetName
from pippin.sampling.config import SamplingConfig
from pippin.system.ranks import first_process, process_count
from pippin.system.terminal import plain, say

WIDEST = 130
"""Columns of the table of measures, so that no fingerprint is cut."""


@dataclass(frozen=True, kw_only=True)
class _OfRunCommand:
    evaluation: Annotated[EvaluationConfig, tyro.conf.arg(name="")]
    sampling: SamplingConfig
    autoencoder: str | None = None
    """Folder or name of the autoencoder, if it is not where the run was trained."""


@dataclass(frozen=True, kw_only=True)
class EvaluateRunCommand(_OfRunCommand):
    """Measure a run: held-out loss, sample quality, control drift and effect. Under torchrun
    several processes share the drawing of its samples."""

    data: DataPlace = field(default_factory=DataPlace)
    """The run's own images, training and held-out ones."""


@dataclass(frozen=True, kw_only=True)
class EvaluatePresetCommand(_OfRunCommand):
    """Measure a run of text on the captions of a folder that it was not trained on."""

    preset: PresetName
    data: ImagesConfig
    """The folder: one caption a picture. data.resolution is the side at which pictures and
    samples are compared."""


@dataclass(frozen=True, kw_only=True)
class EvaluateFolderCommand:
    """Measure a folder of images, or a .npz of them (arr_0), against the clean images of a data
    set, or against what --reference names."""

    evaluation: Annotated[EvaluationConfig, tyro.conf.arg(name="")] = field(
        default_factory=EvaluationConfig
    )
    data: DataConfig = field(default_factory=OpenMojiConfig)
    """The reference: OpenMoji, or with --data.path FOLDER your own pictures. data.resolution is
    the side of its pictures before features are taken."""
    device: str = "auto"
    out: Path | None = None
    """File of JSON lines to add the measures to. Default: FOLDER/results.jsonl where `pippin
    sample` made the folder; into any other folder nothing is written."""


def main(argv: list[str]) -> int:
    """Parse, measure, print and record."""
    if not argv or argv[0] in ("-h", "--help"):
        say(
            "usage: pippin evaluate RUN_OR_FOLDER [options]\n"
            f"       pippin evaluate RUN --preset {'|'.join(PRESETS)} --data.path FOLDER ...\n"
            "       add --help to see them"
        )
        return 0 if argv else 2
    folder, rest = Path(argv[0]), argv[1:]
    if not folder.is_dir() and (folder.suffix != ".npz" or not folder.is_file()):
        raise ValueError(
            f"{folder} is no folder; give a run folder, a folder of images or a .npz of them"
        )
    preset = _preset_name(rest)
    from pippin.run.folder import TWIN

    names = ("config.json", TWIN)
    is_run = preset is not None or any((folder / name).exists() for name in names)
    found = _run(folder, preset, rest) if is_run else _folder(folder, rest)
    if found is None:  # a process that only helped
        return 0
    measures, out = found

    from pippin.run.evaluate import write_results

    _print_table(measures)
    if out is None:
        say("not recorded; give a file with --out to keep these numbers with their protocols")
        return 0
    if not is_run:  # a run's evaluation has recorded its own
        write_results(measures, out)
    say(f"recorded with whole protocols: {out}")
    return 0


def _run(
    folder: Path, preset: PresetName | None, arguments: list[str]
) -> tuple[list[dict[str, Any]], Path] | None:
    """The measures of a run, and where they are recorded; None in processes that draw for the
    first one."""
    from pippin.run.folder import RunFolder
    from pippin.run.trained import trained_sampling

    place = RunFolder(folder)
    recipe = place.recipe()
    default: EvaluateRunCommand | EvaluatePresetCommand = EvaluateRunCommand(
        evaluation=recipe.evaluation, sampling=trained_sampling(str(folder), recipe)
    )
    if preset is not None:
        default = _preset_command(preset, default.sampling)
    command = parse(type(default), "pippin evaluate RUN", arguments, default)

    from pippin.run.crew import assembled, own_card
    from pippin.run.evaluate import evaluate_run, run_protocol, with_fingerprints
    from pippin.run.load import load_run
    from pippin.run.sample import help_drawing
    from pippin.run.zero_shot import evaluate_zero_shot

    recipe = replace(recipe, evaluation=command.evaluation, sampling=command.sampling)
    recipe = own_card(recipe)
    with assembled(recipe) as crew:
        own = None if isinstance(command, EvaluatePresetCommand) else command.data.path
        run = load_run(
            folder,
            recipe.sampling.weights,
            recipe=recipe,
            crew=crew,
            data_path=own,
            autoencoder=command.autoencoder,
        )
        if not crew.world.first:
            help_drawing(run)
            return None
        if isinstance(command, EvaluatePresetCommand):
            measures = evaluate_zero_shot(run, command.data, folder, command.preset)
        else:
            measures = evaluate_run(run, folder)
    return with_fingerprints(measures, run_protocol(run)), place.results


def _preset_name(arguments: list[str]) -> PresetName | None:
    """What follows --preset, before the other options, whose defaults depend on it."""
    for place, one in enumerate(arguments):
        option, equals, value = one.partition("=")
        if option == "--preset":
            given = value if equals else next(iter(arguments[place + 1 :]), "")
            for name in PRESETS:
                if name == given:
                    return name
            raise ValueError(f"no preset {given!r}; there are: {', '.join(PRESETS)}")
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
    """The measures of a folder, and where to record them; None in all processes but the first,
    which measures alone."""
    default = EvaluateFolderCommand(data=chosen_data(arguments))
    command = parse(EvaluateFolderCommand, "pippin evaluate FOLDER", arguments, default)

    named = [one for one in arguments if one.startswith("--data.")]
    if command.evaluation.reference_kind == "file" and named:
        raise ValueError(f"{named[0]} has no effect with --reference; leave one of them out")
    check_squares(command.data, "pippin evaluate FOLDER")
    if not first_process():
        return None
    if process_count() > 1:
        say("images of a folder are measured by one process; the others end", error=True)

    from pippin.run.evaluate import with_fingerprints
    from pippin.run.evaluate_folder import (
        evaluate_against,
        evaluate_folder,
        folder_protocol,
        reference_protocol,
    )
    from pippin.run.sample_folder import MANIFEST
    from pippin.system.device import resolve_device

    device, config = resolve_device(command.device), command.evaluation
    if config.reference_kind == "file":
        other = Path(config.reference)
        config = replace(config, reference="train")  # the measures say what the file holds
        measures = evaluate_against(folder, other, config, device)
        protocol = reference_protocol(config)
    else:
        measures = evaluate_folder(folder, command.data, config, device)
        protocol = folder_protocol(command.data, config)
    own = folder / "results.jsonl" if (folder / MANIFEST).exists() else None
    return with_fingerprints(measures, protocol), command.out or own


def _print_table(measures: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    columns = ("measure", "of", "value", "95 % interval", "N", "better", "protocol")
    table = Table(*(Column(name, no_wrap=True) for name in columns))
    for one in measures:
        low, high, value = one["low"], one["high"], one["value"]
        interval = "" if low is None else f"{low:.4g} to {high:.4g} ({one['interval_over']})"
        number = "not finite" if value is None else f"{value:.4g}"
        cells = (one["name"], one["subject"], number, interval, str(one["n"]), one["better"])
        table.add_row(*map(plain, cells), one["fingerprint"])
    console = Console()
    Console(width=max(console.width, WIDEST)).print(table)

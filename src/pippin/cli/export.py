# SPDX-License-Identifier: Apache-2.0
"""``pippin export RUN OUT``: export the weights of a run as a self-contained folder, for
pippin, as a pipeline or model of diffusers, or as a Space."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pippin.cli.parsing.licence import LicenceOptions
from pippin.cli.parsing.options import DataLocation, parse
from pippin.cli.parsing.text_source_option import TextSourceOption
from pippin.config import ConfigError
from pippin.system.text import print_above_progress, print_text

if TYPE_CHECKING:
    import torch

    from pippin.publish.facts import CardFacts
    from pippin.runs.trained import Trained


@dataclass(frozen=True, kw_only=True)
class ExportCommand(LicenceOptions, TextSourceOption):
    """Export a model for sampling elsewhere, for initialising a run, or for diffusers: settings,
    weights, class names, autoencoder."""

    run: Annotated[str, tyro.conf.Positional]
    """A run folder (its newest intact checkpoint), an exported or converted folder, the name of a
    shipped model, or hf://USER/NAME."""
    out: Annotated[Path, tyro.conf.Positional]
    """New folder, or one left unfinished by the same command."""
    to: Literal["pippin", "diffusers", "diffusers-model", "space"] = "pippin"
    """diffusers: a pipeline for DiffusionPipeline.from_pretrained; diffusers-model: its denoiser
    and scheduler alone, if an equivalent class exists; space: a Space with the playground."""
    weights: str | None = None
    """ema, raw, or one of the run's train.ema_extra, such as ema-share-0.1; None = ema of a run,
    or the only weights of an exported folder."""
    checkpoint: int | None = None
    """Images seen of the run's checkpoint; default the newest intact one."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Type of the weights on disk; pippin casts them to float32 on loading."""
    text_encoder: bool = True
    """Copy text encoders from local folders; False: `pippin sample` on a machine without these
    folders needs --text-source."""
    autoencoder: str | None = None
    """Folder or name of the autoencoder, if it has moved since training."""
    data: DataLocation = field(default_factory=DataLocation)
    """Images, needed only to name the classes of a run made by an older version."""


WITH_CARD = ("diffusers", "space")
"""Kinds of folders that have a model card."""


def main(argv: list[str]) -> int:
    """Parse, load, export."""
    command = parse(ExportCommand, "pippin export", argv)

    import torch

    from pippin.runs.exports import check_export_folder
    from pippin.system.weight_checks import check_cast

    check_export_folder(command.out)
    licence = command.licence
    if command.to not in WITH_CARD and (given := command.given_options):
        raise ConfigError(
            f"{', '.join(given)}: --to {command.to} writes no card; leave it out, or give --to "
            f"{' or '.join(WITH_CARD)}"
        )
    trained = _trained(command)
    dtype = getattr(torch, command.dtype)
    check_cast(trained.tensors, dtype, command.run)
    if command.to in WITH_CARD:
        from pippin.publish.facts import collect_facts

        facts = collect_facts(trained, command.dtype, licence)
        write = _export_pipeline if command.to == "diffusers" else _export_space
        advice = write(facts, command)
    else:
        export_model = _export_for_pippin if command.to == "pippin" else _export_denoiser
        advice = export_model(trained, command, dtype)
    print_text(f"exported: {command.out}, {trained.description}; {advice}")
    return 0


def _export_for_pippin(trained: "Trained", command: ExportCommand, dtype: "torch.dtype") -> str:
    """Write pippin's own format; returns what to type next."""
    from pippin.runs.trained import export

    _print_notes(export(trained, command.out, dtype, text_encoders=command.text_encoder))
    return f"next: pippin sample {command.out}, or pippin train ... --init.run {command.out}"


def _export_pipeline(facts: "CardFacts", command: ExportCommand) -> str:
    """Write a pipeline of diffusers."""
    from pippin.publish.pipeline import write_pipeline

    _refuse_modules("a pipeline")
    written = write_pipeline(facts, command.out, text_encoders=command.text_encoder)
    _print_notes(written.notes)
    return f"next, in Python beside the folder:\n{written.call}"


def _export_space(facts: "CardFacts", command: ExportCommand) -> str:
    """Write a Space."""
    from pippin.publish.space import write_space

    _refuse_modules("a Space")
    if not command.text_encoder:
        raise ConfigError(
            "--no-text-encoder: a Space draws with its own text encoders; leave it out"
        )
    _print_notes(write_space(facts, command.out))
    return f"next: hf upload USER/NAME {command.out} --repo-type space"


def _refuse_modules(what: str) -> None:
    """Refuse a folder that would need code of imported modules.

    Raises:
        ConfigError: the message names the modules.
    """
    from pippin.plugins import imported_modules

    if names := imported_modules():
        raise ConfigError(
            f"{what} cannot hold code of imported modules ({', '.join(names)}): export without "
            "--to, and give the modules beside it"
        )


def _export_denoiser(trained: "Trained", command: ExportCommand, dtype: "torch.dtype") -> str:
    """Write a denoiser of diffusers with its scheduler."""
    from pippin.interop.convert import model_spec
    from pippin.interop.diffusers_format import EXTRA_FILE, write_folder
    from pippin.publish.model_folder import folder_facts
    from pippin.publish.pipeline import trained_autoencoder
    from pippin.runs.exports import writing_export

    tensors = {name: tensor.to(dtype) for name, tensor in trained.tensors.items()}
    spec = model_spec(trained.located, tensors)
    own = None if trained.latents is None else trained_autoencoder(trained)
    with writing_export(command.out, folder_facts(trained, command.to, command.dtype)):
        if own is not None:
            own.save(command.out / "vae")
        exported = write_folder(command.out, spec, tensors, trained.weights)
    if exported.extra:
        print_text(f"in {EXTRA_FILE}, not read by diffusers: {', '.join(exported.extra)}")
    if exported.note:
        _print_notes([exported.note])
    if trained.latents is not None:
        _print_notes(
            [
                "latents are normalised by measured statistics, (raw - mean) / std with "
                f"mean {list(trained.latents.mean)} and std {list(trained.latents.std)}; "
                f"the autoencoder in {command.out / 'vae'} applies them"
            ]
        )
    return f"next: diffusers.{exported.class_name}.from_pretrained({str(command.out)!r})"


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print_text(f"note: {note}")


def _trained(command: ExportCommand) -> "Trained":
    """Weights, with the autoencoder and class names chosen by the command."""
    from rich.console import Console

    from pippin.data.config import ImagesConfig
    from pippin.runs.folder import AUTOENCODER
    from pippin.runs.trained import load_trained_weights
    from pippin.sampling.trained_components import inputs_in_folder

    trained = load_trained_weights(command.run, command.weights, command.checkpoint)
    trained = _with_text_source(trained, command)
    console = Console(stderr=True)
    if command.autoencoder is not None:
        locations = {**trained.bundled_paths, AUTOENCODER: command.autoencoder}
        trained = replace(trained, bundled_paths=locations)
    if command.data.path is not None:
        inputs = inputs_in_folder(trained, command.data.path, console)
        trained = replace(trained, inputs=inputs)
    if trained.inputs is None and isinstance(trained.recipe.data, ImagesConfig):
        print_above_progress(
            console,
            f"an older version made {command.run} without them; --data.path FOLDER reads them "
            "from a folder",
            label="class names are unknown:",
        )
    return trained


def _with_text_source(trained: "Trained", command: ExportCommand) -> "Trained":
    """Model with the text encoders that the command names.

    Raises:
        ConfigError: a combination without encoders, or encoders with other files than those of
            the training.
    """
    text = command.with_text_source(trained.recipe.text)
    if not command.text_source:
        return trained
    from pippin.encoders.text import encoder_fingerprint
    from pippin.runs.folder import TEXT

    inputs = trained.inputs
    if inputs is not None:
        if inputs.text_encoder not in (None, encoder_fingerprint(text)):
            raise ConfigError(
                f"--text-source {' '.join(command.text_source)}: these are other text encoders "
                f"than those that {command.run} was trained with; leave --text-source out"
            )
        places = {name: path for name, path in inputs.places.items() if not name.startswith(TEXT)}
        inputs = replace(inputs, places=places)
    bundled = {k: path for k, path in trained.bundled_paths.items() if not k.startswith(TEXT)}
    recipe = replace(trained.recipe, text=text)
    return replace(trained, recipe=recipe, inputs=inputs, bundled_paths=bundled)

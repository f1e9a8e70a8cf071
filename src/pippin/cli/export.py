# SPDX-License-Identifier: Apache-2.0
"""``pippin export RUN OUT``: export the weights of a run as a self-contained folder."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pippin.cli.parsing.options import DataLocation, parse
from pippin.system.text import print_above_progress, print_text

if TYPE_CHECKING:
    from pippin.encoders.autoencoder import Autoencoder
    from pippin.runs.trained import Trained


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """Export a model for sampling elsewhere, for initialising a run, or for diffusers: settings,
    weights, class names, autoencoder."""

    run: Annotated[str, tyro.conf.Positional]
    """A run folder (its newest intact checkpoint), an exported or converted folder, the name of a
    shipped model, or hf://USER/NAME."""
    out: Annotated[Path, tyro.conf.Positional]
    """New folder, or one left unfinished by the same command."""
    to: Literal["pippin", "diffusers"] = "pippin"
    """diffusers: a model folder of diffusers, if an equivalent class exists."""
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


def main(argv: list[str]) -> int:
    """Parse, load, export."""
    command = parse(ExportCommand, "pippin export", argv)

    import torch

    from pippin.runs.exports import check_export_folder, writing_export
    from pippin.runs.trained import export
    from pippin.system.weight_checks import check_cast

    check_export_folder(command.out)
    trained = _trained(command)
    dtype = getattr(torch, command.dtype)
    check_cast(trained.tensors, dtype, command.run)
    if command.to == "pippin":
        notes = export(trained, command.out, dtype, text_encoders=command.text_encoder)
        for line in notes:
            print_text(f"note: {line}")
        advice = f"next: pippin sample {command.out}, or pippin train ... --init.run {command.out}"
    else:
        from pippin.interop.convert import model_spec
        from pippin.interop.diffusers_format import EXTRA_FILE, write_folder

        tensors = {name: tensor.to(dtype) for name, tensor in trained.tensors.items()}
        spec = model_spec(trained.located, tensors)
        facts = {
            "to": command.to,
            "weights": trained.weights,
            "images_seen": trained.images_seen,
            "lineage": trained.lineage,
        }
        own = _own_autoencoder(trained)
        with writing_export(command.out, facts):
            if own is not None:
                own.save(command.out / "vae")
            exported = write_folder(command.out, spec, tensors, trained.weights)
        if exported.extra:
            print_text(f"in {EXTRA_FILE}, not read by diffusers: {', '.join(exported.extra)}")
        if exported.note:
            print_text(f"note: {exported.note}")
        if trained.latents is not None:
            print_text(
                "note: latents are normalised by measured statistics, (raw - mean) / std with "
                f"mean {list(trained.latents.mean)} and std {list(trained.latents.std)}; "
                f"the autoencoder in {command.out / 'vae'} applies them"
            )
        advice = f"next: diffusers.{exported.class_name}.from_pretrained({str(command.out)!r})"
    print_text(f"exported: {command.out}, {trained.description}; {advice}")
    return 0


def _trained(command: ExportCommand) -> "Trained":
    """Weights, with the autoencoder and class names chosen by the command."""
    from rich.console import Console

    from pippin.data.config import ImagesConfig
    from pippin.runs.folder import AUTOENCODER
    from pippin.runs.trained import load_trained_weights
    from pippin.sampling.load import inputs_in_folder

    trained = load_trained_weights(command.run, command.weights, command.checkpoint)
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


def _own_autoencoder(trained: "Trained") -> "Autoencoder | None":
    """Autoencoder with the latent statistics of training, if they differ from its own files."""
    from pippin.encoders.autoencoder import Autoencoder
    from pippin.runs.latents import check_latents

    if trained.latents is None:
        return None
    own = Autoencoder.load(trained.located.autoencoder)
    check_latents(trained.latents, trained.recipe.autoencoder, own)
    return own.with_affine(trained.latents.affine)

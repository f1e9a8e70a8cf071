# SPDX-License-Identifier: Apache-2.0
"""``pippin export RUN OUT``: the weights of a run as one folder that needs no run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pippin.cli.options import parse

if TYPE_CHECKING:
    from pippin.run.trained import Trained


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """Write config.json and weights: what sampling, another run's start, or diffusers needs."""

    run: Annotated[str, tyro.conf.Positional]
    """A run folder (its newest good checkpoint), an exported or converted folder, or the name of
    a shipped model."""
    out: Annotated[Path, tyro.conf.Positional]
    """New folder."""
    to: Literal["pippin", "diffusers"] = "pippin"
    """diffusers: the folder of a model class of diffusers, where there is one that computes what
    this model does."""
    weights: str = "ema"
    """ema, raw, or one of the run's train.ema_extra, such as ema-share-0.1."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the weights on disk; pippin casts them to float32 when it loads them."""


def main(argv: list[str]) -> int:
    """Parse, read, write."""
    command = parse(ExportCommand, "pippin export", argv)

    import torch

    from pippin.run.trained import export, open_trained, refuse_full

    refuse_full(command.out)
    trained = open_trained(command.run, command.weights)
    dtype = getattr(torch, command.dtype)
    if command.to == "pippin":
        export(trained, command.out, dtype)
        advice = f"next: pippin sample {command.out}, or pippin train ... --init.run {command.out}"
    else:
        from pippin.interop.convert import configured_of
        from pippin.interop.diffusers_format import DIT_NOTE, EXTRA_FILE, write_folder

        tensors = {name: tensor.to(dtype) for name, tensor in trained.tensors.items()}
        configured = configured_of(trained.recipe, tensors)
        exported = write_folder(command.out, configured, tensors)
        if exported.extra:
            print(f"in {EXTRA_FILE}, not read by diffusers: {', '.join(exported.extra)}")
        if trained.recipe.denoiser.kind == "dit":
            print(f"note: {DIT_NOTE}")
        if trained.latents is not None:
            print(f"note: {_export_autoencoder(trained, command.out / 'vae')}")
        advice = f"next: diffusers.{exported.class_name}.from_pretrained({str(command.out)!r})"
    print(
        f"exported: {command.out} ({trained.weights} weights at {trained.images_seen} images); "
        f"{advice}"
    )
    return 0


def _export_autoencoder(trained: "Trained", folder: Path) -> str:
    """Write the autoencoder with the numbers that the weights were trained with, and say so."""
    from pippin.encoders.autoencoder import Autoencoder
    from pippin.run.latents import check_latents

    own = Autoencoder.load(trained.recipe.autoencoder)
    check_latents(trained.latents, trained.recipe.autoencoder, own)
    assert trained.latents is not None
    mean, std = trained.latents.mean, trained.latents.std
    own.with_affine(trained.latents.affine).save(folder)
    return (
        f"latents are normalised by measured numbers, (raw - mean) / deviation with mean "
        f"{list(mean)} and deviation {list(std)}; {folder} is the autoencoder with these"
    )

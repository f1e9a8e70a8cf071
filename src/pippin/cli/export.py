# SPDX-License-Identifier: Apache-2.0
"""``pippin export RUN OUT``: the weights of a run as one folder that needs no run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pippin.cli.options import parse


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """Write config.json and model.safetensors: what sampling or another run's start needs."""

    run: Annotated[str, tyro.conf.Positional]
    """A run folder (its newest good checkpoint), or an exported folder."""
    out: Annotated[Path, tyro.conf.Positional]
    """New folder."""
    weights: Literal["ema", "raw"] = "ema"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the weights on disk; loading casts them to float32."""


def main(argv: list[str]) -> int:
    """Parse, read, write."""
    command = parse(ExportCommand, "pippin export", argv)

    import torch

    from pippin.run.trained import export, open_trained

    trained = open_trained(command.run, command.weights)
    export(trained, command.out, getattr(torch, command.dtype))
    print(
        f"exported: {command.out} ({trained.weights} weights at {trained.images_seen} images); "
        f"next: pippin sample {command.out}, or pippin train ... --init.run {command.out}"
    )
    return 0

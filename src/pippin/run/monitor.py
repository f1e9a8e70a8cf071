# SPDX-License-Identifier: Apache-2.0
"""What a run shows of its model while it trains: held-out loss and preview grids, of the EMA."""

import re
from pathlib import Path

import torch

from pippin.run.held_out import HeldOut
from pippin.run.load import LoadedRun
from pippin.run.parts import Parts
from pippin.run.pictures import grid, save_png
from pippin.run.sample import draw
from pippin.system.lines import read_lines
from pippin.system.terminal import note
from pippin.training.hooks import Every
from pippin.training.log import RunLog
from pippin.training.trainer import Trainer
from pippin.types import Prompt

PREVIEW_IMAGES = 36


def validation_hook(parts: Parts, log: RunLog | None, lines: Path) -> Every:
    """Writes ``held_out_loss`` to the log every ``validate_every`` images.

    Args:
        parts: of the run.
        log: None in processes that only take part.
        lines: the log's file.
    """
    held_out: list[HeldOut] = []  # encoded when it is first needed

    def validate(trainer: Trainer) -> None:
        with trainer.averaged(parts.model_with_null) as model:
            if model is None or log is None:
                return
            if not held_out:
                held_out.append(HeldOut(parts))
            headline = held_out[0].losses(model)[0]
        log.write(trainer.images_seen, held_out_loss=headline.value)

    def done(images: int) -> bool:
        written = read_lines(lines).objects.values()
        return any(one.get("images") == images and "held_out_loss" in one for one in written)

    return Every(parts.recipe.train.validate_every, validate, done)


def remove_later_previews(folder: Path, images_seen: int) -> None:
    """Remove the previews of a run that ended, beyond the place where this one begins: they may be
    of other weights."""
    for path in folder.glob("*.png"):
        if re.fullmatch(r"\d{9,}", path.stem) and int(path.stem) > images_seen:
            path.unlink()


def preview_hook(parts: Parts, folder: Path) -> Every:
    """Writes ``previews/IMAGES.png`` every ``preview_every`` images: seeds from 0 on with classes
    in turn, or with held-out captions."""

    def preview(trainer: Trainer) -> None:
        with trainer.averaged(parts.model_with_null) as model:
            if model is None:
                return
            run = LoadedRun(
                recipe=parts.recipe,
                parts=parts,
                model=model,
                weights="ema",
                images_seen=trainer.images_seen,
            )
            shown = list(range(len(run.class_names)))
            if parts.recipe.sampling.control.ask == "training":  # of which some may have no law
                source = parts.train_source
                shown = sorted({source.label(index) for index in range(len(source))})
            prompts: list[Prompt] = [shown[n % len(shown)] for n in range(PREVIEW_IMAGES)]
            text, captions = None, parts.held_out_captions
            if captions is not None:
                prompts = list(captions.first[:PREVIEW_IMAGES])
                text = captions.measured(torch.arange(len(prompts)))
            try:
                images = draw(run, prompts, range(len(prompts)), parts.recipe.sampling, text)
            except FloatingPointError as error:  # the training may still recover
                note(parts.console, error, label="no preview:")
                return
        folder.mkdir(exist_ok=True)
        save_png(grid(images), place(trainer.images_seen))

    def place(images: int) -> Path:
        return folder / f"{images:09d}.png"

    return Every(parts.recipe.train.preview_every, preview, lambda images: place(images).exists())

# SPDX-License-Identifier: Apache-2.0
"""Monitoring of a training run: held-out loss and preview grids, with EMA weights."""

from pathlib import Path
from typing import Any

import torch

from pippin.evaluation.runs.held_out import HeldOut
from pippin.images.files import image_grid, save_png
from pippin.model import LatentDenoiser
from pippin.runs.components import Components
from pippin.runs.folder import RunFolder
from pippin.sampling.load import LoadedRun
from pippin.sampling.sample import draw
from pippin.system.files import write_json
from pippin.system.text import print_above_progress, valid_unicode
from pippin.training.log import RunLog, is_logged
from pippin.training.monitor import Monitor
from pippin.training.preview_prompts import MANIFEST, preview_text, set_aside_other_prompts
from pippin.types import Prompt, TextFeatures

PREVIEW_IMAGES = 36


def validation_monitor(components: Components, log: RunLog | None, lines: Path) -> Monitor:
    """Log ``held_out_loss`` every ``validate_every`` images.

    Args:
        components: components of the run.
        log: None on ranks other than 0, which never write.
        lines: file of the log.
    """
    held_out: list[HeldOut] = []  # encoded on first use

    def validate(model: LatentDenoiser, images_seen: int) -> None:
        if not held_out:
            held_out.append(HeldOut(components))
        headline = held_out[0].losses(model)[0]
        if log is not None:
            log.validation(images_seen, held_out_loss=headline.value)

    return Monitor(
        every=components.recipe.train.validate_every,
        run=validate,
        done=lambda images: is_logged(lines, images, "held_out_loss"),
        build=components.model_with_null,
    )


def _manifest_row(seed: int, prompt: str) -> dict[str, Any]:
    """One image of a preview, as manifests of samples list it."""
    return {"seed": seed, "prompt": valid_unicode(prompt)}


def _text_prompts(components: Components) -> tuple[list[Prompt], TextFeatures]:
    """Prompts of a grid and their features: those of the recipe in turn, or held-out captions."""
    own = components.recipe.train.preview_prompts
    if own:
        texts = [own[n % len(own)] for n in range(PREVIEW_IMAGES)]
        return list(texts), preview_text(components, texts, range(PREVIEW_IMAGES))
    captions = components.held_out_captions
    assert captions is not None
    prompts: list[Prompt] = list(captions.first[:PREVIEW_IMAGES])
    return prompts, captions.measured(torch.arange(len(prompts)))


def remove_later_previews(folder: RunFolder, images_seen: int) -> None:
    """Remove the previews of an earlier run beyond the image count at which this one begins: they
    may show other weights."""
    for images, path in folder.list_previews():
        if images > images_seen:
            path.unlink()


def preview_monitor(
    components: Components, folder: RunFolder, log: RunLog | None = None
) -> Monitor:
    """Write ``previews/IMAGES.png`` every ``preview_every`` images: seeds from 0 on with classes
    in turn, or with the recipe's prompts or held-out captions, which ``previews/manifest.json``
    lists.

    Args:
        components: components of the run.
        folder: of the previews.
        log: calls the callbacks after each; None on ranks other than 0.
    """

    def preview(model: LatentDenoiser, images_seen: int) -> None:
        run = LoadedRun.in_training(components, model, images_seen)
        labels = list(range(len(run.class_names)))
        if components.recipe.sampling.control.ask == "training":  # some classes may have no image
            source = components.train_source
            labels = sorted({source.label(index) for index in range(len(source))})
        prompts: list[Prompt] = [labels[n % len(labels)] for n in range(PREVIEW_IMAGES)]
        text: TextFeatures | None = None
        if components.text_rule is not None:
            prompts, text = _text_prompts(components)
        try:
            images = draw(run, prompts, range(len(prompts)), run.recipe.sampling, text)
        except FloatingPointError as error:  # the training may still recover
            print_above_progress(components.console, error, label="no preview:")
            return
        folder.previews.mkdir(exist_ok=True)
        if text is not None:
            rows = [_manifest_row(seed, str(prompt)) for seed, prompt in enumerate(prompts)]
            set_aside_other_prompts(folder, [row["prompt"] for row in rows], images_seen)
            write_json(folder.previews / MANIFEST, {"images": rows})
        save_png(image_grid(images), folder.preview(images_seen))
        if log is not None:
            log.preview(images_seen, folder.preview(images_seen))

    return Monitor(
        every=components.recipe.train.preview_every,
        run=preview,
        done=lambda images: folder.preview(images).exists(),
        build=components.model_with_null,
    )

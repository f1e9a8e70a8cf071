# SPDX-License-Identifier: Apache-2.0
"""``pippin evaluate RUN --preset``: a model of text on the captions of another folder."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pippin.config import ConfigError, protocol
from pippin.control import Size
from pippin.data.config import ImagesConfig, check_squares
from pippin.data.crop import apply_control, whole_image
from pippin.data.images import ImagesSource
from pippin.data.metadata_columns import MAIN
from pippin.data.views import clean_view
from pippin.evaluation.clip_score import Clip, clip_measures
from pippin.evaluation.evaluate import compare
from pippin.evaluation.features import build_features, extract
from pippin.evaluation.folder import image_batches
from pippin.evaluation.measure import Measure, Subject
from pippin.evaluation.presets import PresetName
from pippin.rng import permutation
from pippin.run.clip_score import clip_for, warn_truncated_captions
from pippin.run.evaluate import run_protocol, with_fingerprints, write_results
from pippin.run.folder import RunFolder
from pippin.run.load import LoadedRun
from pippin.run.sample import draw_into, sample_rows, sampling_protocol
from pippin.run.sample_folder import SHOWN, make_room
from pippin.system.lock import folder_lock
from pippin.system.terminal import note
from pippin.types import Images


class CaptionedImages:
    """All pictures of a folder, in the order of their names, with one caption each.

    Raises:
        ConfigError: pictures without a caption.
        ValueError, OSError: see :class:`pippin.data.images.ImagesSource`.
    """

    def __init__(self, data: ImagesConfig) -> None:
        sources = [ImagesSource(data, "train"), ImagesSource(data, "held-out")]
        items = [(source, index) for source in sources for index in range(len(source))]
        self.config = data
        self._items = sorted(items, key=lambda item: item[0].key(item[1]))
        self.lost = len(sources[0].lost)
        named = [source.picture(index).captions for source, index in self._items]
        self.captions = [captions.get(MAIN, "") for captions in named]
        pairs = zip(self._items, self.captions, strict=True)
        silent = [source.key(index) for (source, index), caption in pairs if not caption]
        if silent:
            raise ConfigError(
                f"{len(silent)} of {len(self)} pictures of {data.path} have no caption "
                f"({silent[0]}, ...); give a metadata.csv or metadata.jsonl with the columns "
                "file_name and caption, one row a picture"
            )

    def __len__(self) -> int:
        """How many."""
        return len(self._items)

    def images(self, indices: Sequence[int], batch_size: int) -> Iterator[Images]:
        """Clean views of some pictures, one batch in memory at a time."""
        for start in range(0, len(indices), batch_size):
            chosen = [self._items[index] for index in indices[start : start + batch_size]]
            yield torch.stack([clean_view(source, index).image for source, index in chosen])


def evaluate_zero_shot(
    run: LoadedRun, data: ImagesConfig, folder: Path, preset: PresetName
) -> list[Measure]:
    """Distances between samples for a folder's captions and all its pictures, and CLIP score.

    The samples stay in evaluation/PRESET/ below ``folder``, and an evaluation that was interrupted
    keeps those that are drawn. The measures are added to the folder's results.jsonl.

    Args:
        run: of a model of text; its recipe's evaluation and sampling say how.
        data: pictures and captions; both sides are compared at its resolution.
        folder: where samples and results go.
        preset: what the measures' protocol calls it.

    Raises:
        ConfigError: a model of classes, samples that are not square, too few pictures, or
            pictures without a caption.
        ValueError, OSError: pictures or a CLIP that cannot be used, or another process evaluates
            in the folder.
    """
    _check(run, preset)
    clip, pictures, place = clip_for(run), CaptionedImages(data), RunFolder(folder)
    _check_images(run, pictures)
    with folder_lock(place.evaluation):
        found = _measures(run, pictures, clip, place.evaluation / preset, preset)
        # The run's own evaluation has measures of these names against its own pictures.
        measures = [replace(one, name=f"zero-shot {one.name}") for one in found]
        write_results(with_fingerprints(measures, run_protocol(run)), place.results)
    return measures


def _measures(
    run: LoadedRun,
    pictures: CaptionedImages,
    clip: Clip | None,
    place: Path,
    preset: PresetName,
) -> list[Measure]:
    config, sampling = run.recipe.evaluation, run.recipe.sampling
    size, side = config.batch_size, pictures.config.resolution
    order = permutation(len(pictures), "subset", config.seed, "captions").tolist()
    chosen = order[: config.num_samples]
    captions = [pictures.captions[index] for index in chosen]
    files = _draw(run, captions, place)
    shared = {
        "preset": preset,
        **{f"zero_shot.{path}": value for path, value in protocol(pictures.config).items()},
        "captions_of": "the preset's folder",
    }
    known = run.parts.training_record
    trained = known.protocol(None, run.recipe) if known is not None else {}
    mine = shared | sampling_protocol(run, sampling) | trained
    extractor = build_features(config, run.parts.device)
    drawn = extract(extractor, _resized(files, size, side))
    reference = extract(extractor, pictures.images(range(len(pictures)), size))
    distances = compare(drawn, reference, config)
    measures = [replace(one, protocol=one.protocol | mine) for one in distances]
    if clip is None:
        return measures
    made, real = _resized(files, size, side), pictures.images(chosen, size)
    sides: dict[Subject, Any] = {"arm": (made, mine), "real": (real, shared)}
    warn_truncated_captions(clip, captions, run.parts.console)
    return measures + clip_measures(clip, captions, sides, config)


def _check(run: LoadedRun, preset: PresetName) -> None:
    if run.parts.text_rule is None:
        raise ConfigError(
            f"--preset {preset} draws for captions, and this model reads none; "
            "give the run of a model of text"
        )
    height, width = run.recipe.sampling.pixels(run.recipe.data.resolution)
    if height != width:
        raise ConfigError(
            f"--preset {preset} compares square images; sampling.size makes {height} x {width}: "
            "leave it out or give a square"
        )


def _check_images(run: LoadedRun, pictures: CaptionedImages) -> None:
    config, console = run.recipe.evaluation, run.parts.console
    check_squares(pictures.config, "pippin evaluate RUN --preset")
    count = len(pictures)
    if count < config.neighbours + 2:
        raise ConfigError(
            f"{count} pictures are too few: the distances need {config.neighbours + 2} "
            "(evaluation.neighbours + 2)"
        )
    if count < config.num_samples:
        line = f"{count} of the {config.num_samples} asked for; all count"
        note(console, line, label="fewer captions:")
    if pictures.lost:
        line = f"{pictures.lost} images; `pippin data check` lists them"
        note(console, line, label="skipped:")


def _draw(run: LoadedRun, captions: Sequence[str], place: Path) -> list[Path]:
    """One image a caption, seed k with caption k, in whole batches."""
    sampling, seeds = run.recipe.sampling, range(len(captions))
    make_room(place, sampling_protocol(run, sampling))
    draw_into(run, captions, seeds, sampling, place, shown=SHOWN)
    return [place / row.file for row in sample_rows(run, captions, seeds)]


def _resized(files: Sequence[Path], batch_size: int, resolution: int) -> Iterator[Images]:
    """Square images at the side of the pictures they are compared with, by the same filter."""
    for images in image_batches(files, batch_size):
        whole = whole_image(Size(*images.shape[-2:]))
        yield torch.stack([apply_control(image, whole, resolution) for image in images])

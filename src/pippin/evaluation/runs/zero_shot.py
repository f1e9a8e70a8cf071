# SPDX-License-Identifier: Apache-2.0
"""``pippin evaluate RUN --preset``: a text model on the captions of another folder."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pippin.config import ConfigError, protocol
from pippin.control import Size
from pippin.data.config import ImagesConfig, check_squares
from pippin.data.folder.metadata_columns import MAIN
from pippin.data.sources.images import ImageFolderSource
from pippin.data.views.crop import apply_control, whole_image
from pippin.data.views.views import clean_view
from pippin.evaluation.config import PresetName
from pippin.evaluation.distances import compare
from pippin.evaluation.features.extraction import build_features, extract
from pippin.evaluation.measure import Measure, Subject
from pippin.evaluation.metrics.clip_score import Clip, clip_measures, warn_truncated_captions
from pippin.evaluation.metrics.declared.zero_shot import ZERO_SHOT
from pippin.evaluation.runs.captions import clip_for
from pippin.evaluation.runs.evaluate import run_protocol
from pippin.evaluation.runs.protocol import refuse_newer_results, sample_seeds
from pippin.evaluation.runs.recording import with_fingerprints, write_results
from pippin.images.folder import image_batches
from pippin.rng import permutation
from pippin.runs.folder import RunFolder
from pippin.sampling.load import LoadedRun
from pippin.sampling.sample import sampled_files, sampling_protocol
from pippin.sampling.sample_folder import SHOWN
from pippin.system.lock import folder_lock
from pippin.system.text import print_above_progress
from pippin.types import Images


class CaptionedImages:
    """All images of a folder, in the order of their names, with one caption each.

    Raises:
        ConfigError: images without a caption.
        ValueError, OSError: see :class:`pippin.data.sources.images.ImageFolderSource`.
    """

    def __init__(self, data: ImagesConfig) -> None:
        sources = [ImageFolderSource(data, "train"), ImageFolderSource(data, "held-out")]
        items = [(source, index) for source in sources for index in range(len(source))]
        self.config = data
        self._items = sorted(items, key=lambda item: item[0].key(item[1]))
        self.num_skipped = len(sources[0].skipped)
        named = [source.record(index).captions for source, index in self._items]
        self.captions = [captions.get(MAIN, "") for captions in named]
        pairs = zip(self._items, self.captions, strict=True)
        missing = [source.key(index) for (source, index), caption in pairs if not caption]
        if missing:
            raise ConfigError(
                f"{len(missing)} of {len(self)} images of {data.path} have no caption "
                f"({missing[0]}, ...); give a metadata.csv or metadata.jsonl with the columns "
                "file_name and caption, one row per image"
            )

    def __len__(self) -> int:
        """Number of images."""
        return len(self._items)

    def images(self, indices: Sequence[int], batch_size: int) -> Iterator[Images]:
        """Clean views of some images, one batch in memory at a time."""
        for start in range(0, len(indices), batch_size):
            chosen = [self._items[index] for index in indices[start : start + batch_size]]
            yield torch.stack([clean_view(source, index).image for source, index in chosen])


def evaluate_zero_shot(
    run: LoadedRun, data: ImagesConfig, folder: Path, preset: PresetName
) -> list[Measure]:
    """Distances between samples for a folder's captions and all its images, and CLIP score.

    The samples stay in evaluation/PRESET/ below ``folder``, and an interrupted evaluation reuses
    them. The measures are added to the folder's results.jsonl.

    Args:
        run: a text model; its recipe configures evaluation and sampling.
        data: images and captions; samples and images are compared at its resolution.
        folder: folder of samples and results.
        preset: name for the measures' protocol.

    Raises:
        ConfigError: a model without text, samples that are not square, too few images, or
            images without a caption.
        ValueError, OSError: images or a CLIP that cannot be used, or another process evaluates
            in the folder.
    """
    _check(run, preset)
    clip, dataset, run_folder = clip_for(run), CaptionedImages(data), RunFolder(folder)
    _check_images(run, dataset)
    with folder_lock(run_folder.evaluation):
        refuse_newer_results(run_folder.results)
        measures = _measures(run, dataset, clip, run_folder.evaluation / preset, preset)
        # The run's own evaluation has measures of these names against its own dataset.
        measures = [replace(m, name=ZERO_SHOT(of=m.metric).name) for m in measures]
        write_results(with_fingerprints(measures, run_protocol(run)), run_folder.results)
    return measures


def _measures(
    run: LoadedRun,
    dataset: CaptionedImages,
    clip: Clip | None,
    place: Path,
    preset: PresetName,
) -> list[Measure]:
    config, sampling = run.recipe.evaluation, run.recipe.sampling
    size, side = config.batch_size, dataset.config.resolution
    order = permutation(len(dataset), "subset", config.seed, "captions").tolist()
    chosen = order[: config.num_samples]
    captions = [dataset.captions[index] for index in chosen]
    files = _draw(run, captions, place)
    shared = {
        "preset": preset,
        **{f"zero_shot.{path}": value for path, value in protocol(dataset.config).items()},
        "captions_of": "the preset's folder",
    }
    record = run.components.training_record
    trained = record.protocol(None, run.recipe) if record is not None else {}
    sample_protocol = shared | sampling_protocol(run, sampling) | trained
    extractor = build_features(config, run.components.device)
    samples = extract(extractor, _resized(files, size, side))
    reference = extract(extractor, dataset.images(range(len(dataset)), size))
    distances = compare(samples, reference, config)
    measures = [replace(m, protocol=m.protocol | sample_protocol) for m in distances]
    if clip is None:
        return measures
    resized, real = _resized(files, size, side), dataset.images(chosen, size)
    subjects: dict[Subject, Any] = {"arm": (resized, sample_protocol), "real": (real, shared)}
    warn_truncated_captions(clip, captions, run.components.console)
    return measures + clip_measures(clip, captions, subjects, config)


def _check(run: LoadedRun, preset: PresetName) -> None:
    if run.components.text_rule is None:
        raise ConfigError(
            f"--preset {preset} samples for captions, and this model reads none; "
            "give the run of a text model"
        )
    height, width = run.recipe.sampling.pixels(run.recipe.data.resolution)
    if height != width:
        raise ConfigError(
            f"--preset {preset} compares square images; sampling.size makes {height} x {width}: "
            "leave it out or give a square"
        )


def _check_images(run: LoadedRun, dataset: CaptionedImages) -> None:
    config, console = run.recipe.evaluation, run.components.console
    check_squares(dataset.config, "pippin evaluate RUN --preset")
    count = len(dataset)
    if count < config.neighbours + 2:
        raise ConfigError(
            f"{count} images are too few: the distances need {config.neighbours + 2} "
            "(evaluation.neighbours + 2)"
        )
    if count < config.num_samples:
        line = f"{count} of the {config.num_samples} requested; all are used"
        print_above_progress(console, line, label="fewer captions:")
    if dataset.num_skipped:
        line = f"{dataset.num_skipped} images; `pippin data check` lists them"
        print_above_progress(console, line, label="skipped:")


def _draw(run: LoadedRun, captions: Sequence[str], place: Path) -> list[Path]:
    """Sample one image per caption, each with a seed of its own, in whole batches."""
    seeds = sample_seeds(run.recipe, len(captions))
    return sampled_files(run, captions, seeds, place, clear=True, shown=SHOWN)


def _resized(files: Sequence[Path], batch_size: int, resolution: int) -> Iterator[Images]:
    """Square images at the resolution of the images they are compared with, by the same filter."""
    for images in image_batches(files, batch_size):
        control = whole_image(Size(*images.shape[-2:]))
        yield torch.stack([apply_control(image, control, resolution) for image in images])

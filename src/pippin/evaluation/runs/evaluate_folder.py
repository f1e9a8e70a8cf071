# SPDX-License-Identifier: Apache-2.0
"""``pippin evaluate FOLDER``: images against a data set, saved statistics or other images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from pippin.config import ConfigError, protocol
from pippin.control import Size
from pippin.data.config import DataConfig
from pippin.data.sources.openmoji_table import Split
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.distances import compare, compare_statistics
from pippin.evaluation.features.extraction import Features, build_features, extract
from pippin.evaluation.images import (
    ImageSet,
    SizeRecorder,
    log_skipped_files,
    open_images,
    warn_size_mismatch,
)
from pippin.evaluation.measure import Measure
from pippin.evaluation.metrics.clip_score import Clip, clip_measures, warn_truncated_captions
from pippin.evaluation.npz import IMAGES, npz_names
from pippin.evaluation.reference import check_features, load_statistics
from pippin.evaluation.runs.evaluate import clean_features, real_floor
from pippin.evaluation.runs.protocol import quality_reference
from pippin.system.text import print_above_progress


def evaluate_folder(
    path: Path, data: DataConfig, config: EvaluationConfig, device: torch.device
) -> list[Measure]:
    """Sample quality of a folder of images against the clean images of a data set, training or
    held-out images according to ``config.reference``.

    Where the folder has a manifest of ``pippin sample``, exactly its files are measured.

    Args:
        path: the folder, or a ``.npz`` with uint8 images in ``arr_0``.
        data: data set of the reference.
        config: what to measure.
        device: device of the networks.

    Raises:
        ValueError: a folder of a run or a study, no images, a damaged manifest, a manifest of
            missing samples, or a CLIP without captions.
    """
    images, clip, sizes = open_images(path), _clip(path, config, device), SizeRecorder()
    log_skipped_files(images, path)
    extractor = build_features(config, device)

    def clean(split: Split) -> Features:
        return clean_features(data, config, split, device)

    reference = quality_reference(config, extractor, clean)
    features = extract(extractor, sizes.record(images.batches(config.batch_size)))
    square = [Size(data.resolution, data.resolution)]
    advice = "--data.resolution {side} makes them alike"
    warn_size_mismatch(sizes.sizes, square, advice, Console(stderr=True))
    measures = reference.compare(features, config, "arm")
    measures = _measures(measures, features, images, clip, config)
    return [*measures, *real_floor(reference, config)]


def evaluate_against(
    path: Path, reference: Path, config: EvaluationConfig, device: torch.device
) -> list[Measure]:
    """Sample quality of a folder of images against a reference that is a file or a folder.

    Args:
        path: the images, as for :func:`evaluate_folder`.
        reference: statistics in a ``.npz`` (``mu``, ``sigma``), which allow Frechet distances
            only; images in a ``.npz`` (``arr_0``) or a folder of images, which allow all
            distances. In a file of both, as ADM's are, Frechet distances use the statistics.
        config: what to measure.
        device: device of the networks.

    Raises:
        ValueError: as :func:`evaluate_folder`; the reference is none of these, or its statistics
            are of other features.
    """
    kinds, images = _arrays(reference), open_images(path)
    log_skipped_files(images, path)
    clip, extractor = _clip(path, config, device), build_features(config, device)
    statistics = load_statistics(reference) if "mu" in kinds else None
    if statistics is not None:  # before any work
        check_features(statistics, extractor.name, extractor.fingerprint, extractor.dim)
    sizes, reference_sizes = SizeRecorder(), SizeRecorder()
    features = extract(extractor, sizes.record(images.batches(config.batch_size)))
    if IMAGES in kinds:
        real = open_images(reference)
        log_skipped_files(real, reference)
        reference_features = extract(
            extractor, reference_sizes.record(real.batches(config.batch_size))
        )
        measures = compare(features, reference_features, config, statistics=statistics)
    else:
        assert statistics is not None
        measures = compare_statistics(features, statistics)
        print_above_progress(
            Console(stderr=True),
            "KID, precision, recall, density and coverage need the "
            "reference's images; --reference takes a folder of them too",
            label="statistics only:",
        )
    recorded = reference_sizes.sizes or set(statistics.sizes if statistics is not None else ())
    if recorded:  # statistics of other programs do not record sizes
        advice = (
            "give a reference of {side} x {side} images, or its statistics at that side: "
            f"pippin reference IMAGES --resolution {{side}} --features {config.features} --out "
            "FILE.npz"
        )
        warn_size_mismatch(sizes.sizes, recorded, advice, Console(stderr=True))
    return _measures(measures, features, images, clip, config)


def folder_protocol(data: DataConfig, config: EvaluationConfig) -> dict[str, Any]:
    """Protocol entries of a comparison of a folder with a data set."""
    return {f"reference.{path}": value for path, value in protocol(data).items()} | _settings(
        config
    )


def reference_protocol(config: EvaluationConfig) -> dict[str, Any]:
    """The same where the reference is a file or a folder: each measure records its hash."""
    return {"reference.kind": "given"} | _settings(config)


def _settings(config: EvaluationConfig) -> dict[str, Any]:
    return {f"evaluation.{path}": value for path, value in protocol(config).items()}


def _arrays(reference: Path) -> list[str]:
    """Names of the arrays in a file; ``arr_0`` for a folder of images."""
    if reference.is_dir():
        return [IMAGES]
    if reference.suffix != ".npz":
        raise ValueError(f"--reference {reference} must be a folder of images or a .npz file")
    kinds = npz_names(reference)
    if not {IMAGES, "mu"} & set(kinds):
        raise ValueError(
            f"{reference} holds {', '.join(kinds) or 'nothing'}; a reference is made of mu and "
            f"sigma (statistics, see `pippin reference`) or of {IMAGES} (uint8 images)"
        )
    return kinds


def _clip(path: Path, config: EvaluationConfig, device: torch.device) -> Clip | None:
    if config.clip is None:
        return None
    if open_images(path).captions is None:
        if config.features == "clip":
            return None
        raise ConfigError(
            f"--clip {config.clip} needs the caption of every image, and {path} has none: leave "
            "it out, or give a folder that `pippin sample RUN --prompts ...` made"
        )
    return Clip(config.clip, device)


def _measures(
    distances: Sequence[Measure],
    features: Features,
    images: ImageSet,
    clip: Clip | None,
    config: EvaluationConfig,
) -> list[Measure]:
    """Add the CLIP score where there is a CLIP, and the images' protocol."""
    measures = list(distances)
    if clip is not None and images.captions is not None:
        batches = images.batches(config.batch_size)
        warn_truncated_captions(clip, images.captions, Console(stderr=True))
        measures += clip_measures(clip, images.captions, {"arm": (batches, {})}, config)
    extra = images.protocol | {"images_hash": features.image_hash}
    return [replace(measure, protocol=measure.protocol | extra) for measure in measures]

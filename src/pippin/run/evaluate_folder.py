# SPDX-License-Identifier: Apache-2.0
"""``pippin evaluate FOLDER``: images against a data set, stored statistics or other images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from pippin.config import ConfigError, protocol
from pippin.control import Size
from pippin.data.config import DataConfig
from pippin.data.table import Split
from pippin.evaluation.clip_score import Clip, clip_measures
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.evaluate import compare, compare_statistics
from pippin.evaluation.features import Features, build_features, extract
from pippin.evaluation.measure import Measure
from pippin.evaluation.npz import IMAGES, npz_names
from pippin.evaluation.reference import check_features, load_statistics
from pippin.run.clip_score import say_cut_captions
from pippin.run.evaluate import clean_features, real_floor
from pippin.run.image_set import ImageSet, open_images, say_skipped
from pippin.run.quality_reference import quality_reference
from pippin.run.sizes import SeenSizes, name_sizes
from pippin.system.terminal import note


def evaluate_folder(
    path: Path, data: DataConfig, config: EvaluationConfig, device: torch.device
) -> list[Measure]:
    """Sample quality of a folder of images against the clean images of a data set, training or
    held-out ones as ``config.reference`` says.

    Where the folder has a manifest of ``pippin sample``, exactly its files are measured.

    Args:
        path: the folder, or a ``.npz`` with uint8 images in ``arr_0``.
        data: the reference.
        config: what is measured.
        device: where networks run.

    Raises:
        ValueError: a run's or a study's folder, no image, a manifest that is damaged or of
            samples that are not all there, or a CLIP without captions.
    """
    images, clip, seen = open_images(path), _clip(path, config, device), SeenSizes()
    say_skipped(images, path)
    extractor = build_features(config, device)

    def clean(split: Split) -> Features:
        return clean_features(data, config, split, device)

    reference = quality_reference(config, extractor, clean)
    found = extract(extractor, seen.of(images.batches(config.batch_size)))
    square = [Size(data.resolution, data.resolution)]
    advice = "--data.resolution {side} makes them alike"
    name_sizes(seen.sizes, square, advice, Console(stderr=True))
    measures = reference.compare(found, config, "arm")
    measures = _measures(measures, found, images, clip, config)
    return [*measures, *real_floor(reference, config)]


def evaluate_against(
    path: Path, reference: Path, config: EvaluationConfig, device: torch.device
) -> list[Measure]:
    """Sample quality of a folder of images against a reference that is a file or a folder.

    Args:
        path: the images, as of :func:`evaluate_folder`.
        reference: statistics in a ``.npz`` (``mu``, ``sigma``), which allow Frechet distances
            only; images in a ``.npz`` (``arr_0``) or a folder of images, which allow all
            distances. A file of both, as ADM's are, gives the former by its statistics.
        config: what is measured.
        device: where networks run.

    Raises:
        ValueError: as :func:`evaluate_folder`; the reference is none of these, or its statistics
            are of other features.
    """
    kinds, images = _kinds(reference), open_images(path)
    say_skipped(images, path)
    clip, extractor = _clip(path, config, device), build_features(config, device)
    statistics = load_statistics(reference) if "mu" in kinds else None
    if statistics is not None:  # before any work
        check_features(statistics, extractor.name, extractor.fingerprint, extractor.dim)
    seen, sizes = SeenSizes(), SeenSizes()
    found = extract(extractor, seen.of(images.batches(config.batch_size)))
    if IMAGES in kinds:
        real = open_images(reference)
        say_skipped(real, reference)
        theirs = extract(extractor, sizes.of(real.batches(config.batch_size)))
        measures = compare(found, theirs, config, statistics=statistics)
    else:
        assert statistics is not None
        measures = compare_statistics(found, statistics)
        note(
            Console(stderr=True),
            "KID, precision, recall, density and coverage need the "
            "reference's images; --reference takes a folder of them too",
            label="statistics only:",
        )
    theirs_are = sizes.sizes or set(statistics.sizes if statistics is not None else ())
    if theirs_are:  # the files of others do not say it
        advice = (
            "give a reference of {side} x {side} images, or its statistics at that side: "
            f"pippin reference IMAGES --resolution {{side}} --features {config.features} --out "
            "FILE.npz"
        )
        name_sizes(seen.sizes, theirs_are, advice, Console(stderr=True))
    return _measures(measures, found, images, clip, config)


def folder_protocol(data: DataConfig, config: EvaluationConfig) -> dict[str, Any]:
    """What a folder is compared with, and how, as protocol entries."""
    return {f"reference.{path}": value for path, value in protocol(data).items()} | _how(config)


def reference_protocol(config: EvaluationConfig) -> dict[str, Any]:
    """The same where the reference is a file or a folder: each measure knows its hash."""
    return {"reference.kind": "given"} | _how(config)


def _how(config: EvaluationConfig) -> dict[str, Any]:
    return {f"evaluation.{path}": value for path, value in protocol(config).items()}


def _kinds(reference: Path) -> list[str]:
    """The arrays of a file; those of a folder of images."""
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
        raise ConfigError(
            f"--clip {config.clip} needs the caption of every image, and {path} has none: leave "
            "it out, or give a folder that `pippin sample RUN --prompts ...` made"
        )
    return Clip(config.clip, device)


def _measures(
    distances: Sequence[Measure],
    found: Features,
    images: ImageSet,
    clip: Clip | None,
    config: EvaluationConfig,
) -> list[Measure]:
    """With the CLIP score where one is asked for, and the images' protocol."""
    measures = list(distances)
    if clip is not None and images.captions is not None:
        again = images.batches(config.batch_size)
        say_cut_captions(clip, images.captions, Console(stderr=True))
        measures += clip_measures(clip, images.captions, {"arm": (again, {})}, config)
    extra = images.protocol | {"images_hash": found.image_hash}
    return [replace(one, protocol=one.protocol | extra) for one in measures]

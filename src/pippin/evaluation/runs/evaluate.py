# SPDX-License-Identifier: Apache-2.0
"""``pippin evaluate RUN``: all measures of a run, with their floors."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from pippin.config import protocol
from pippin.control import Size
from pippin.data.config import DataConfig
from pippin.data.sources.factory import build_file_source, build_source
from pippin.data.sources.openmoji_table import Split
from pippin.data.views.views import clean_images
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.features.efflite0 import EffLite0
from pippin.evaluation.features.extraction import (
    FeatureExtractor,
    Features,
    build_features,
    extract,
)
from pippin.evaluation.features.lpips_distance import Lpips
from pippin.evaluation.image_meter import ImageMeter
from pippin.evaluation.image_metric import ImageMetric, image_metrics
from pippin.evaluation.images import warn_size_mismatch
from pippin.evaluation.measure import Measure, Subject
from pippin.evaluation.metric_registry import declared_source
from pippin.evaluation.metrics.cost import cost_measures
from pippin.evaluation.metrics.declared.sharpness import SHARPNESS
from pippin.evaluation.metrics.memorisation import memorisation_measures
from pippin.evaluation.runs.best_interval import best_interval_measures
from pippin.evaluation.runs.best_request import best_request_measures
from pippin.evaluation.runs.best_scale import best_scale_measures
from pippin.evaluation.runs.captions import (
    alignment_measures,
    clip_for,
    held_out_clip_measures,
)
from pippin.evaluation.runs.held_out import HeldOut
from pippin.evaluation.runs.protocol import (
    QualityReference,
    Stages,
    noise_seed,
    quality_reference,
    refuse_newer_results,
    sample_seeds,
)
from pippin.evaluation.runs.recording import with_fingerprints, write_results
from pippin.evaluation.runs.run_drift import drift_measures
from pippin.evaluation.runs.sampling_cost import sampling_cost
from pippin.evaluation.runs.scenes import scene_measures
from pippin.images.folder import image_batches
from pippin.rng import permutation
from pippin.runs.folder import RunFolder
from pippin.runs.provenance import data_protocol
from pippin.sampling.load import LoadedRun, untrained_run
from pippin.sampling.sample import sample_rows, sampled_files, sampling_protocol
from pippin.sampling.sample_folder import SHOWN, SampleFolder, remove_samples
from pippin.system.lock import folder_lock
from pippin.system.text import print_above_progress
from pippin.types import Prompt


def evaluate_run(run: LoadedRun, folder: Path) -> list[Measure]:
    """Measure the parts of a run that ``evaluation.parts`` names, the best scale where there are
    scales, and the CLIP score where there is a CLIP.

    Writes evaluation/samples/, drift/ and real/drift/ below ``folder``, and adds the measures to
    its results.jsonl. An interrupted evaluation resumes: it keeps finished parts and complete
    images.

    Args:
        run: the model; its recipe configures the evaluation.
        folder: folder of results and images.

    Raises:
        FormatError: the results or an interrupted evaluation are of a newer version.
        ValueError: another process evaluates in the folder.
        OSError: disk full or not writable; finished parts and earlier results stay.
    """
    run_folder = RunFolder(folder)
    with folder_lock(run_folder.evaluation):
        refuse_newer_results(run_folder.results)
        content = run_protocol(run) | sampling_protocol(run, run.recipe.sampling)
        content |= data_protocol(run.components)
        extractor = build_features(run.recipe.evaluation, run.components.device)
        if not isinstance(extractor, EffLite0):  # the recipe's protocol leaves out its file
            content |= {"features_fingerprint": extractor.fingerprint}
        stages = Stages(run_folder.evaluation / "stages.jsonl", content)
        measures = [
            replace(measure, protocol=measure.protocol | run.identity)
            if measure.subject == "arm"
            else measure
            for measure in _Evaluation(run, run_folder, extractor).measures(stages)
        ]
        # Results first: where the disk is full, the parts are kept for the next attempt.
        write_results(with_fingerprints(measures, run_protocol(run)), run_folder.results)
        stages.done()
    return measures


class _Evaluation:
    """The parts of one run's evaluation.

    Args:
        run: the model to measure.
        folder: its folder.
        extractor: features that samples are compared in.
    """

    def __init__(self, run: LoadedRun, folder: RunFolder, extractor: FeatureExtractor) -> None:
        self.run, self.folder, self.extractor = run, folder, extractor
        self.config, self.device = run.recipe.evaluation, run.components.device
        self._check_sampling()
        # Load networks and the reference first, so that errors come before any sampling.
        self.clip = clip_for(run)
        self.lpips = None if self.config.lpips is None else Lpips(self.config.lpips, self.device)
        if self.config.reference != "train" and {"quality", "real", "untrained"} & {
            *self.config.parts
        }:
            _ = self.reference

    def measures(self, stages: Stages) -> list[Measure]:
        """All measures; ``stages`` holds those of finished parts of an interrupted evaluation."""
        run = self.run
        measures = cost_measures(run.recipe, run.num_classes, run.components.latent_shape)
        measures.append(sampling_cost(run, run.recipe.sampling))
        data = data_protocol(run.components)
        parts = {name: part for name, (enabled, part) in self._parts().items() if enabled}
        for measure in stages.measure_all(parts, run.components.console):
            measures.append(replace(measure, protocol=measure.protocol | data))
        if "quality" in self.config.parts:
            self._keep_shown_samples()
        remove_samples(self.folder.evaluation / "untrained")
        return measures

    def _parts(self) -> dict[str, tuple[bool, Callable[[], list[Measure]]]]:
        """Name of each part in ``stages.jsonl``, whether it is enabled, and its function.

        The name depends on the CLIP, the LPIPS network, and the declared metrics of images with
        their source.
        """
        config, parts = self.config, self.config.parts
        clip = self.clip.fingerprint if self.clip else ""
        captioned = self.run.components.text_rule is not None
        custom = (kind for kind in image_metrics() if kind is not SHARPNESS)
        own = "".join(f" {kind.name} {declared_source(kind)}" for kind in custom)
        drift = "drift" if self.lpips is None else f"drift {self.lpips.fingerprint}"
        return {
            "held-out": ("held-out" in parts, lambda: self.held_out.losses(self.run.model)),
            f"quality{own}": ("quality" in parts, self._sample_quality),
            "best scale": (bool(config.scales), self._best_scale),
            "best interval": (bool(config.intervals), self._best_interval),
            "best request": (bool(config.requests), self._best_request),
            drift: ("drift" in parts, self._drift),
            "alignment": ("alignment" in parts and captioned, self._alignment),
            f"clip {clip}": (self.clip is not None, self._clip_score),
            f"real{own}": ("real" in parts, self._real),
            f"untrained{own}": ("untrained" in parts, self._untrained),
            "control-profile": ("control-profile" in parts, self._control_profile),
            "scene": (
                "scene" in parts,
                lambda: scene_measures(self.run, self.folder.evaluation / "scene"),
            ),
        }

    @cached_property
    def held_out(self) -> HeldOut:
        """Held-out latents, encoded once."""
        return HeldOut(self.run.components)

    @cached_property
    def reference(self) -> QualityReference:
        """The reference of sample quality."""
        return quality_reference(self.config, self.extractor, self.clean)

    def clean(self, split: Split) -> Features:
        """Features of the clean images of a split."""
        components = self.run.components
        record = (
            components.data_record.train if split == "train" else components.data_record.held_out
        )
        return clean_features(components.data, self.config, split, self.device, record.content)

    def _check_sampling(self) -> None:
        config = self.config
        if "quality" in config.parts or config.scales or config.intervals or config.requests:
            recipe = self.run.recipe
            side = recipe.data.resolution
            drawn, advice = Size(*recipe.sampling.pixels(side)), "leave --sampling.size out"
            warn_size_mismatch([drawn], [Size(side, side)], advice, self.run.components.console)

    def _prompts(self) -> list[Prompt]:
        return evaluation_prompts(self.run, self.config.num_samples)

    def _sample_quality(self) -> list[Measure]:
        nearest = self.clean("held-out"), self.clean("train")
        samples = self.folder.evaluated_samples
        return _quality(self.run, self.reference, self.extractor, samples, "arm", nearest)

    def _best_scale(self) -> list[Measure]:
        images = self.reference.images
        return best_scale_measures(self.run, self._prompts(), self.extractor, images)

    def _best_interval(self) -> list[Measure]:
        images = self.reference.images
        return best_interval_measures(self.run, self._prompts(), self.extractor, images)

    def _best_request(self) -> list[Measure]:
        images = self.reference.images
        return best_request_measures(self.run, self._prompts(), self.extractor, images)

    def _alignment(self) -> list[Measure]:
        train, held_out = self.clean("train"), self.clean("held-out")
        return alignment_measures(self.run, self.extractor, train, held_out, self._caption_samples)

    @property
    def _caption_samples(self) -> Path:
        return self.folder.evaluation / "captions"

    def _drift(self) -> list[Measure]:
        """Drift in pippin's own distance, whatever the features of samples are."""
        own = self.extractor if isinstance(self.extractor, EffLite0) else None
        network = own or EffLite0(self.config.input_size, self.device)
        return drift_measures(self.run, self.folder.path, network, self.lpips)

    def _clip_score(self) -> list[Measure]:
        assert self.clip is not None
        return held_out_clip_measures(self.run, self.clip, self._caption_samples)

    def _real(self) -> list[Measure]:
        components = self.run.components
        return [
            *real_floor(self.reference, self.config),
            *clean_image_measures(
                components.data,
                self.config,
                image_metrics(),
                components.data_record.held_out.content,
            ),
        ]

    def _untrained(self) -> list[Measure]:
        run = self.run
        untrained = untrained_run(
            run.recipe, run.components.console, run.sampling_group, run.components
        )
        loss = self.held_out.losses(untrained.model, subject="untrained")[:1]
        place = self.folder.evaluation / "untrained"
        return [*loss, *_quality(untrained, self.reference, self.extractor, place, "untrained")]

    def _control_profile(self) -> list[Measure]:
        return self.held_out.control_profile(self.run.model, self.run.read_names)

    def _keep_shown_samples(self) -> None:
        """Keep the samples that reports show, and remove the others."""
        run = self.run
        rows = sample_rows(run, self._prompts(), sample_seeds(run.recipe, SHOWN))
        protocol = sampling_protocol(run, run.recipe.sampling)
        SampleFolder(self.folder.evaluated_samples, protocol).keep_only(rows)


def _quality(
    run: LoadedRun,
    reference: QualityReference,
    extractor: FeatureExtractor,
    place: Path,
    subject: Subject,
    nearest: tuple[Features, Features] | None = None,
) -> list[Measure]:
    """Distances between samples and the reference; the samples stay in ``place``.

    With held-out and training images, also the memorisation measures.
    """
    config = run.recipe.evaluation
    prompts = evaluation_prompts(run, config.num_samples)
    seeds = sample_seeds(run.recipe, config.num_samples)
    files = sampled_files(run, prompts, seeds, place, clear=True, shown=SHOWN)
    meter = ImageMeter(image_metrics())
    features = extract(extractor, meter.watch(image_batches(files, config.batch_size)))
    content = sampling_protocol(run, run.recipe.sampling)
    extra = {**content, "labels": "as often as in training"}
    measures = reference.compare(features, config, subject)
    measures += meter.measures(seed=config.seed, subject=subject)
    if nearest is not None:
        measures += memorisation_measures(features, *nearest, seed=config.seed)
    return [replace(measure, protocol=measure.protocol | extra) for measure in measures]


def real_floor(reference: QualityReference, config: EvaluationConfig) -> list[Measure]:
    """The same distances for real images outside the reference: the level of a perfect model.

    A custom data set may hold out too few images for these distances; then there is no floor, and
    a note says so.
    """
    if len(reference.floor) < config.neighbours + 2:
        print_above_progress(
            Console(stderr=True),
            f"{len(reference.floor)} images are held out, and the distances need "
            f"{config.neighbours + 2}; more images or a larger data.held_out_share give one",
            label="no floor:",
        )
        return []
    return reference.compare(reference.floor, config, subject="real")


@lru_cache(maxsize=4)
def clean_features(
    data: DataConfig,
    config: EvaluationConfig,
    split: Split,
    device: torch.device,
    content: str = "",
) -> Features:
    """Features of the clean view of every image, one per base image.

    Cached in memory for each ``content`` of the images: the arms of a study share them.
    """
    source = build_file_source(data, split)
    return extract(build_features(config, device), clean_images(source, config.batch_size))


@lru_cache(maxsize=2)
def clean_image_measures(
    data: DataConfig, config: EvaluationConfig, kinds: tuple[ImageMetric, ...], content: str = ""
) -> tuple[Measure, ...]:
    """Metrics of the clean view of every held-out image; ``content`` as above."""
    meter = ImageMeter(kinds)
    for _ in meter.watch(clean_images(build_source(data, "held-out"), config.batch_size)):
        pass
    return tuple(meter.measures(seed=config.seed, subject="real"))


def evaluation_prompts(run: LoadedRun, count: int) -> list[Prompt]:
    """Classes with the frequencies of the training images, or their captions, in an order drawn by
    the evaluation's seed."""
    source = run.components.train_source
    order = permutation(len(source), "subset", noise_seed(run.recipe), "labels").tolist()
    chosen = [order[row % len(order)] for row in range(count)]
    captions = run.components.captions
    return [captions.first[i] if captions is not None else source.label(i) for i in chosen]


def run_protocol(run: LoadedRun) -> dict[str, Any]:
    """Protocol entries of the whole recipe, the measured weights and the encoders' files."""
    model = {
        "model.weights": run.weights,
        "model.images_seen": run.images_seen,
        **run.identity,
        "model.autoencoder": run.components.autoencoder.fingerprint,
    }
    return protocol(run.recipe) | model

# SPDX-License-Identifier: Apache-2.0
"""Sample quality while training: KID, FD and, for text models, agreement with captions.

Every ``quality_every`` images the averaged weights draw the same small set of images: fixed seeds,
and fixed classes or held-out captions. Each value has a 95 % interval, NAME_low to NAME_high, over
other samples of the same weights: a jackknife over the images for KID, over groups of them for FD,
and Wilson's interval for the alignment. None covers the noise between training seeds. All random
numbers are keyed by name, so a training with these measures has the weights of one without.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from pippin.data.source import ImageSource
from pippin.data.views.views import clean_view
from pippin.evaluation.distances import kernel_jackknife
from pippin.evaluation.features.extraction import (
    FeatureExtractor,
    Features,
    build_features,
    extract,
)
from pippin.evaluation.metrics.alignment import (
    RANKS,
    RidgeMap,
    caption_ranks,
    fit_ridge,
    unique_captions,
)
from pippin.evaluation.metrics.frechet import Gaussian
from pippin.evaluation.metrics.frechet_noise import frechet_jackknife
from pippin.evaluation.proportion import wilson_interval
from pippin.evaluation.reference import check_features, load_statistics, statistics_of
from pippin.evaluation.runs.evaluate import evaluation_prompts
from pippin.evaluation.runs.protocol import sample_seeds
from pippin.model import LatentDenoiser
from pippin.rng import permutation
from pippin.runs.components import Components
from pippin.sampling.load import LoadedRun
from pippin.sampling.sample import draw
from pippin.system.text import print_above_progress
from pippin.training.log import RunLog, is_logged
from pippin.training.monitor import Monitor
from pippin.types import Images, Prompt, TextFeatures

REFERENCE_IMAGES = 5000
"""Largest number of real images that samples are compared with."""
Values = dict[str, float]


@dataclass(frozen=True)
class SmallReference:
    """Real images that samples are compared with."""

    features: Features
    rows: Int[Tensor, " images"]
    """Their indices in the source."""


class QualityMeter:
    """Values of sample quality of one run; networks and the reference are loaded on first use.

    Args:
        components: components of the run.
    """

    def __init__(self, components: Components) -> None:
        self.components, self.recipe = components, components.recipe
        self.config = components.located.evaluation

    @cached_property
    def extractor(self) -> FeatureExtractor:
        """Features of ``evaluation.features``."""
        return build_features(self.config, self.components.device)

    @cached_property
    def train(self) -> SmallReference:
        """Training images, at most :data:`REFERENCE_IMAGES`."""
        return self._real(self.components.train_source)

    @cached_property
    def reference(self) -> SmallReference:
        """Images of KID: the held-out ones with ``evaluation.reference`` validation."""
        if self.config.reference_kind == "validation":
            return self._real(self.components.held_out_source)
        return self.train

    @cached_property
    def gaussian(self) -> Gaussian:
        """Statistics of FD: those of the reference, or of the file it names."""
        if self.config.reference_kind != "file":
            return statistics_of(self.reference.features).pooled
        extractor, statistics = self.extractor, load_statistics(Path(self.config.reference))
        check_features(statistics, extractor.name, extractor.fingerprint, extractor.dim)
        return statistics.pooled

    def measure(self, run: LoadedRun) -> Values:
        """Values by name, each with its interval.

        Raises:
            FloatingPointError: the samples are not finite.
        """
        prompts, text = self._prompts(run)
        seeds = sample_seeds(self.recipe, len(prompts))
        images = draw(run, prompts, seeds, run.recipe.sampling, text)
        samples = extract(self.extractor, images.split(self.config.batch_size))
        kid = kernel_jackknife(samples, self.reference.features)
        fd = frechet_jackknife(samples.values, self.gaussian)
        values = _with_interval("kid", kid.value, kid.interval())
        values |= _with_interval("fd", fd.value, fd.interval(lowest=0))
        return values | self._alignment(samples)

    def _prompts(self, run: LoadedRun) -> tuple[list[Prompt], TextFeatures | None]:
        """Held-out captions in turn with their features, or classes as often as in training."""
        count, captions = self.recipe.train.quality_samples, self.components.held_out_captions
        if captions is None:
            return evaluation_prompts(run, count), None
        rows = torch.arange(count) % len(captions.first)
        return [captions.first[row] for row in rows.tolist()], captions.measured(rows)

    @cached_property
    def _ridge(self) -> RidgeMap | None:
        """Map from image features to caption features; None without captions or vectors."""
        captions = self.components.captions
        vectors = None if captions is None else captions.vectors()
        if vectors is None:
            return None
        return fit_ridge(self.train.features.values, vectors[self.train.rows])

    def _alignment(self, samples: Features) -> Values:
        """Share of samples whose own caption is among the nearest, at the largest k of
        :data:`RANKS` below the number of captions."""
        captions, ridge = self.components.held_out_captions, self._ridge
        vectors = None if captions is None else captions.vectors()
        if captions is None or vectors is None or ridge is None:
            return {}
        first, own = unique_captions(captions.first)
        ranks_below = [k for k in RANKS if k < len(first)]
        if not ranks_below:
            return {}
        rows = torch.arange(len(samples)) % len(own)
        ranks = caption_ranks(ridge(samples.values), vectors[torch.tensor(first)], own[rows])
        share = float((ranks < ranks_below[-1]).double().mean())
        return _with_interval("alignment", share, wilson_interval(share, len(samples)))

    def _real(self, source: ImageSource) -> SmallReference:
        """Features of the clean views of some real images, drawn by ``evaluation.seed``."""
        order = permutation(len(source), "subset", self.config.seed, "quality")
        rows = order[:REFERENCE_IMAGES].sort().values
        batches = _clean_batches(source, rows, self.config.batch_size)
        return SmallReference(extract(self.extractor, batches), rows)


def check_quality(components: Components) -> None:
    """Load the networks and statistics of the measures, so that a missing file ends a training
    before it starts, not at its first measure.

    Raises:
        ConfigError, ValueError: a file or a library is missing, or of another kind.
    """
    if components.recipe.train.quality_every:
        meter = QualityMeter(components)
        _ = meter.extractor
        if meter.config.reference_kind == "file":
            _ = meter.gaussian


def quality_monitor(components: Components, log: RunLog | None, lines: Path) -> Monitor:
    """Log sample quality every ``quality_every`` images.

    Args:
        components: components of the run.
        log: None on ranks other than 0, which never write.
        lines: file of the log.
    """
    meter = QualityMeter(components)

    def measure(model: LatentDenoiser, images_seen: int) -> None:
        run = LoadedRun.in_training(components, model, images_seen)
        try:
            values = meter.measure(run)
        except FloatingPointError as error:  # the training may still recover
            print_above_progress(components.console, error, label="no quality:")
            values = {"kid": float("nan"), "fd": float("nan")}
        if log is not None:
            log.validation(images_seen, **values)

    return Monitor(
        every=components.recipe.train.quality_every,
        run=measure,
        done=lambda images: is_logged(lines, images, "kid"),
        build=components.model_with_null,
    )


def _clean_batches(source: ImageSource, rows: Tensor, batch_size: int) -> Iterator[Images]:
    for part in rows.split(batch_size):
        yield torch.stack([clean_view(source, index).image for index in part.tolist()])


def _with_interval(name: str, value: float, interval: tuple[float, float]) -> Values:
    return {name: value, f"{name}_low": interval[0], f"{name}_high": interval[1]}

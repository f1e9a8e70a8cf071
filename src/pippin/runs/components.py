# SPDX-License-Identifier: Apache-2.0
"""Components of a run, built from its recipe."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property

import torch
from rich.console import Console

from pippin.conditioning.config import TextSemantic
from pippin.data.cache.build import build_cache
from pippin.data.cache.builders import SINGLE_BUILDER, Builders
from pippin.data.config import NoDataConfig
from pippin.data.moments import EncodedViews, MomentSource, bucketed_moments
from pippin.data.source import ImageSource
from pippin.data.sources.images import ImageFolderSource
from pippin.diffusion.rescale import build_schedule
from pippin.diffusion.schedules import NoiseSchedule
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.statistics import LatentStatistics
from pippin.encoders.text import TextEncoder, encoder_fingerprint
from pippin.model import LatentDenoiser, build_model
from pippin.recipes.checks import check_recipe, check_resolution
from pippin.recipes.recipe import Recipe
from pippin.runs.data.run_images import RunImages
from pippin.runs.data.streamed import streamed_moments
from pippin.runs.latents import check_latents, measure_latents
from pippin.runs.text_inputs import (
    ImageCaptions,
    check_encoder,
    prompt_features,
    prompt_truncation_notes,
)
from pippin.runs.training_record import TrainingRecord
from pippin.system.device import resolve_device
from pippin.system.progress import Progress
from pippin.system.text import print_above_progress
from pippin.types import TruncatedCaption


class Components(RunImages):
    """The components of a run, each built on first use.

    Args:
        recipe: the recipe to build.
        console: for progress and messages.
        builders: coordination of cache building with other processes; all of them must then need
            the same caches in the same order.
        located: the recipe with resolved paths, see :func:`pippin.runs.folder.locate`; None = the
            paths of the recipe.
        training_record: record of a trained model; None for a model to train.
        latents: statistics that given weights were trained with, see :mod:`pippin.runs.latents`.

    Raises:
        ConfigError: settings of the recipe that do not fit each other.
        ValueError: the schedule does not support the sampling settings.
    """

    def __init__(
        self,
        recipe: Recipe,
        console: Console,
        builders: Builders = SINGLE_BUILDER,
        *,
        located: Recipe | None = None,
        training_record: TrainingRecord | None = None,
        latents: LatentStatistics | None = None,
    ) -> None:
        super().__init__(recipe, console, located=located, training_record=training_record)
        check_recipe(self.located)
        self.builders = builders
        self._warned: set[str] = set()
        self.given_latents = latents
        """Assign it before anything is normalised."""

    @cached_property
    def device(self) -> torch.device:
        """Device of the model."""
        return resolve_device(self.recipe.train.device)

    @cached_property
    def raw_autoencoder(self) -> Autoencoder:
        """The frozen autoencoder with its own statistics, on the device; caches are built with it.

        Raises:
            ValueError: the autoencoder of a trained model is missing, or is another one.
        """
        if self.training_record is None:
            return Autoencoder.load(self.located.autoencoder, device=self.device)
        return self.training_record.load_autoencoder(
            self.recipe, self.located, self.device, self.console
        )

    @cached_property
    def latents(self) -> LatentStatistics | None:
        """Latent statistics in place of the autoencoder's own, see ``autoencoder.normalisation``:
        those of the given weights, or measured ones."""
        if self.recipe.autoencoder.normalisation == "weights":
            return None
        if self.given_latents is None:
            return self.measured_latents
        check_latents(self.given_latents, self.recipe.autoencoder, self.raw_autoencoder)
        return self.given_latents

    @cached_property
    def measured_latents(self) -> LatentStatistics:
        """Latent statistics of a sample of the training images."""
        return measure_latents(self.moments, self.raw_autoencoder.fingerprint, self.data.seed)

    @cached_property
    def autoencoder(self) -> Autoencoder:
        """The frozen autoencoder, on the device; it normalises latents as the model reads them."""
        raw, latents = self.raw_autoencoder, self.latents
        return raw if latents is None else raw.with_affine(latents.affine)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) at the training resolution."""
        return self.raw_autoencoder.latent_shape(self.recipe.data.resolution)

    @cached_property
    def schedule(self) -> NoiseSchedule:
        """The recipe's noise schedule."""
        return build_schedule(self.recipe.diffusion)

    @cached_property
    def moments(self) -> MomentSource:
        """Latent moments of the training images, by bucket where there are any."""
        check_resolution(self.recipe, self.raw_autoencoder.factor)
        source = self.train_source
        if not isinstance(source, ImageFolderSource) or not source.config.aspect_ratios:
            return self._moments_of(source)
        return bucketed_moments(source, self._moments_of)

    def _moments_of(self, source: ImageSource) -> MomentSource:
        """Latent moments of images of one size: cached, or encoded on the fly."""
        if isinstance(source, ImageFolderSource) and source.table is not None:
            return streamed_moments(
                source, self.raw_autoencoder, self.located.cache, self.builders.verify
            )
        if not self.located.cache.enabled:
            return EncodedViews(source, self.raw_autoencoder, device=self.device)
        self.builders.wait()
        shown = self.builders.is_main
        with Progress(
            self.console, "caching latents", unit="views", resumes=True, shown=shown
        ) as progress:
            return build_cache(
                source,
                self.raw_autoencoder,
                self.located.cache,
                device=self.device,
                workers=self.recipe.train.workers,
                verify=self.builders.verify,
                ready=self.builders.ready,
                progress=progress.update,
                say=self._log_cache if self.builders.is_main else None,
            )

    def _log_cache(self, text: str) -> None:
        print_above_progress(self.console, text, label="latent cache:")

    @property
    def text_rule(self) -> TextSemantic | None:
        """Text conditioning of the model; None for a class-conditional or unconditional model."""
        semantic = self.recipe.conditioning.semantic
        return semantic if isinstance(semantic, TextSemantic) else None

    @cached_property
    def text_fingerprint(self) -> str:
        """Digest of the text encoder's files.

        Raises:
            ValueError: the text encoder of a trained model is missing.
        """
        if self.training_record is None:
            return encoder_fingerprint(self.located.text)
        self.training_record.check_text_encoder_exists(self.recipe, self.located)
        with self.training_record.suggest_text_source(self.located):
            return encoder_fingerprint(self.located.text)

    @cached_property
    def text_encoder(self) -> TextEncoder:
        """The frozen text encoder, on the device; not loaded where all captions are cached.

        Raises:
            ValueError: the text encoder of a trained model is missing.
        """
        assert self.text_rule is not None
        if self.training_record is not None:
            self.training_record.check_text_encoder(
                self.recipe, self.located, lambda: self.text_fingerprint, self.console
            )
        with (
            nullcontext()
            if self.training_record is None
            else self.training_record.suggest_text_source(self.located)
        ):
            encoder = TextEncoder(self.located.text, self.device)
        check_encoder(encoder, self.text_rule)
        return encoder

    def warn_truncated_prompts(self, cuts: Sequence[TruncatedCaption]) -> None:
        """Warn of prompts that are longer than the model reads, each of them once."""
        new = [cut for cut in cuts if cut.caption not in self._warned]
        self._warned |= {cut.caption for cut in new}
        for line in prompt_truncation_notes(new):
            print_above_progress(self.console, line, label="truncated prompt:")

    def warn_once(self, line: str, label: str) -> None:
        """Warn, unless the same line has been shown before."""
        if line not in self._warned:
            self._warned.add(line)
            print_above_progress(self.console, line, label=label)

    def warn_truncated_captions(self) -> None:
        """Count the captions of training images that are longer than the model reads."""
        for line in self.captions.truncation_notes() if self.captions is not None else ():
            print_above_progress(self.console, line, label="truncated captions:")

    @cached_property
    def captions(self) -> ImageCaptions | None:
        """Captions of the training images, for a text model."""
        return self._captions_of(self.train_source, self.builders) if self.text_rule else None

    @cached_property
    def held_out_captions(self) -> ImageCaptions | None:
        """Captions of the held-out images, for a text model."""
        return self._captions_of(self.held_out_source, SINGLE_BUILDER) if self.text_rule else None

    def restore_null(self, model: LatentDenoiser) -> None:
        """Set a trained model's null caption mask, which is not among its weights: from its
        record, or from the encoder's empty caption. Needs no images."""
        rule = self.text_rule
        if rule is None or rule.null != "empty":
            return
        if not self.has_captions:  # converted weights lack the features too
            self.set_null(model)
            return
        inputs = self.training_record.inputs if self.training_record is not None else None
        if inputs is None:
            mask = prompt_features(self.text_encoder, rule, [""], [0]).mask
            model.conditioner.set_null_mask(None if mask is None else mask[0])
        else:
            mask = None if inputs.null_mask is None else torch.tensor(inputs.null_mask)
            model.conditioner.set_null_mask(mask)

    def model_with_null(self) -> LatentDenoiser:
        """A new model with its null caption, to load weights into that lack the mask."""
        model = self.new_model()
        self.set_null(model)
        return model

    def set_null(self, model: LatentDenoiser) -> None:
        """Set a text model's null caption, where that is the encoder's empty caption.

        Call it again after loading weights: converted weights do not contain it.
        """
        rule = self.text_rule
        if rule is None or rule.null != "empty":
            return
        if self.has_captions:
            assert self.captions is not None
            model.conditioner.set_null(self.captions.empty())
        else:
            model.conditioner.set_null(prompt_features(self.text_encoder, rule, [""], [0]))

    @property
    def has_captions(self) -> bool:
        """Whether there are images with captions."""
        return not isinstance(self.recipe.data, NoDataConfig)

    def _captions_of(self, source: ImageSource, builders: Builders) -> ImageCaptions:
        assert self.text_rule is not None
        builders.wait()
        shown = builders.is_main
        with Progress(
            self.console, "encoding captions", unit="captions", resumes=True, shown=shown
        ) as progress:
            return ImageCaptions(
                source,
                self.located.text,
                self.text_rule,
                lambda: self.text_encoder,
                self.recipe.seed,
                progress.update,
                builders.verify,
                builders.ready,
                self.device,
                self.text_fingerprint,
            )

    def new_model(self) -> LatentDenoiser:
        """A model with its initial weights, on the device."""
        recipe = self.recipe
        model = build_model(
            recipe.conditioning,
            recipe.denoiser,
            num_classes=self.num_classes,
            latent_channels=self.latent_shape[0],
            seed=recipe.seed,
            log_snr=self.schedule.log_snr,
        )
        return model.to(self.device)

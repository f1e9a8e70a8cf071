# SPDX-License-Identifier: Apache-2.0
"""From a recipe to the objects that a run is made of."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property

import torch
from rich.console import Console
from rich.progress import Progress

from pippin.conditioning.config import TextSemantic
from pippin.config import ConfigError
from pippin.data.bucketed import bucketed
from pippin.data.build import build_cache
from pippin.data.config import DataConfig, ImagesConfig, NoDataConfig, OpenMojiConfig
from pippin.data.images import ImagesSource
from pippin.data.moments import EncodedViews, MomentSource
from pippin.data.open import build_source
from pippin.data.record import DataRecord, record_data
from pippin.data.source import PictureSource
from pippin.data.table import CLASSES
from pippin.diffusion.rescale import build_schedule
from pippin.diffusion.schedules import NoiseSchedule
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.statistics import LatentStatistics
from pippin.encoders.text import TextEncoder, encoder_fingerprint
from pippin.model import LatentDenoiser, build_model
from pippin.recipes.recipe import Recipe
from pippin.run.builders import ONE_BUILDER, Builders
from pippin.run.captions import PictureCaptions, check_encoder, cut_notes, prompt_features
from pippin.run.checks import check_recipe, check_sides
from pippin.run.inputs import captions_read
from pippin.run.known import Known, refuse_reordered
from pippin.run.latents import check_latents, measure_latents
from pippin.system.device import resolve_device
from pippin.system.terminal import note
from pippin.types import CutCaption


class Parts:
    """The parts of a run, each built when it is first asked for.

    Args:
        recipe: what to build.
        console: where progress of preparations is shown.
        builders: how caches of the training pictures are built together with other processes; all
            of them must then ask for the same ones in the same order.
        located: the recipe with its paths as they lead from here, see
            :func:`pippin.run.places.locate`; None = as they are.
        known: what a trained model brings; None for one that is to be trained.
        latents: what the weights at hand were trained with, see :mod:`pippin.run.latents`.

    Raises:
        ConfigError: parts of the recipe that do not fit each other.
        ValueError: sampling that the schedule does not have.
    """

    def __init__(
        self,
        recipe: Recipe,
        console: Console,
        builders: Builders = ONE_BUILDER,
        *,
        located: Recipe | None = None,
        known: Known | None = None,
        latents: LatentStatistics | None = None,
    ) -> None:
        self.located, self.known = located or recipe, known
        check_recipe(self.located)
        self.recipe, self.console, self.builders = recipe, console, builders
        self._said: set[str] = set()
        self.given_latents = latents
        """Replace it before anything is normalised."""

    @cached_property
    def device(self) -> torch.device:
        """Where the model lives."""
        return resolve_device(self.recipe.train.device)

    @property
    def data(self) -> DataConfig:
        """Which pictures, and where they are.

        Raises:
            ConfigError: the recipe is that of a model without pictures.
        """
        data = self.located.data
        if isinstance(data, NoDataConfig):
            raise ConfigError(
                "this model was trained elsewhere and brought no pictures: it can be sampled, "
                "and other runs can start from it (pippin train RECIPE --init.run); to measure "
                "its samples, use pippin evaluate SAMPLES --data.path FOLDER"
            )
        return data

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Class id -> name: of a trained model as it was trained, whatever the folder holds now.

        Where an older run kept no names, it is said which ones are taken.
        """
        data = self.recipe.data
        if self.known is not None and self.known.inputs is not None:
            return self.known.inputs.data.class_names
        if isinstance(data, NoDataConfig):
            return tuple(map(str, range(data.num_classes)))
        if isinstance(data, OpenMojiConfig):  # whatever art is installed
            return CLASSES
        if self.known is not None:
            return self.known.names_of_folder(self._folder_names, self._folder, self.console)
        return self.train_source.class_names

    @property
    def num_classes(self) -> int:
        """Classes of the model, known without the images where the model is trained."""
        if self.known is not None and self.known.num_classes is not None:
            return self.known.num_classes
        unnamed = self.known is not None and self.known.inputs is None
        if unnamed and isinstance(self.recipe.data, ImagesConfig):  # a model of no classes
            return 1
        return len(self.class_names)

    @property
    def probe_side(self) -> int:
        """A side in pixels that at least half of the training images can be shown at."""
        if self.known is not None and self.known.inputs is not None:
            return self.known.inputs.data.probe_side
        return self.train_source.probe_side

    @cached_property
    def train_source(self) -> PictureSource:
        """Pictures to train on.

        Raises:
            ValueError: those of a trained model are not there, or have other classes than it.
        """
        if self.known is not None:
            self.known.check_place(self.recipe, self.located)
            if self.known.inputs is None:
                refuse_reordered(self._train_source, self.recipe, self.known.source)
            self.known.check_source(self.data_record, self.recipe, self._folder, self.console)
        return self._train_source

    @property
    def _folder(self) -> str:
        """The images in words."""
        return getattr(self.data, "path", "") or f"data.kind {self.data.kind}"

    def _folder_names(self) -> tuple[str, ...]:
        if self.known is not None:
            self.known.check_place(self.recipe, self.located)
        source = self._train_source
        return getattr(source, "earlier_class_names", None) or source.class_names

    @cached_property
    def _train_source(self) -> PictureSource:
        with Progress(console=self.console, transient=True) as progress:
            task = progress.add_task("looking into pictures", total=None, visible=False)

            def show(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total, visible=True)

            return build_source(self.data, "train", show)

    @cached_property
    def held_out_source(self) -> PictureSource:
        """Pictures never trained on.

        Raises:
            ValueError: as :attr:`train_source`.
        """
        _ = self.train_source
        return self._held_out_source

    @cached_property
    def _held_out_source(self) -> PictureSource:
        if isinstance(self._train_source, ImagesSource):  # one look into the folder serves both
            return self._train_source.of_split("held-out")
        return build_source(self.data, "held-out")

    @cached_property
    def data_record(self) -> DataRecord:
        """Of the images as they are now."""
        kinds = captions_read(self.recipe)
        return record_data(self._train_source, self._held_out_source, kinds)

    @cached_property
    def raw_autoencoder(self) -> Autoencoder:
        """Frozen, on the device, with the numbers of its own files: what caches are made by.

        Raises:
            ValueError: that of a trained model is not there, or is another one than it was.
        """
        if self.known is None:
            return Autoencoder.load(self.located.autoencoder, device=self.device)
        return self.known.load_autoencoder(self.recipe, self.located, self.device, self.console)

    @cached_property
    def latents(self) -> LatentStatistics | None:
        """What normalises latents in the place of the autoencoder's own numbers, see
        ``autoencoder.normalisation``: those of the weights at hand, or measured here."""
        if self.recipe.autoencoder.normalisation == "weights":
            return None
        if self.given_latents is None:
            return self.measured_latents
        check_latents(self.given_latents, self.recipe.autoencoder, self.raw_autoencoder)
        return self.given_latents

    @cached_property
    def measured_latents(self) -> LatentStatistics:
        """Of a sample of the training images."""
        return measure_latents(self.moments, self.raw_autoencoder.fingerprint, self.data.seed)

    @cached_property
    def autoencoder(self) -> Autoencoder:
        """Frozen, on the device; it normalises latents as the model reads them."""
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
        """Latent moments of the training pictures, bucket by bucket where there are any."""
        check_sides(self.recipe, self.raw_autoencoder.factor)
        source = self.train_source
        if not isinstance(source, ImagesSource) or not source.config.aspect_ratios:
            return self._moments_of(source)
        return bucketed(source, self._moments_of)

    def _moments_of(self, source: PictureSource) -> MomentSource:
        """Of some pictures, all of one size: cached, or encoded on the fly."""
        if not self.located.cache.enabled:
            return EncodedViews(source, self.raw_autoencoder, device=self.device)
        self.builders.wait()
        with Progress(console=self.console, disable=not self.builders.first) as progress:
            task = progress.add_task("caching latents", total=None)
            return build_cache(
                source,
                self.raw_autoencoder,
                self.located.cache,
                device=self.device,
                workers=self.recipe.train.workers,
                verify=self.builders.verify,
                ready=self.builders.ready,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
                say=self._say if self.builders.first else None,
            )

    def _say(self, text: str) -> None:
        note(self.console, text, label="latent cache:")

    @property
    def text_rule(self) -> TextSemantic | None:
        """How the model reads text; None for a model of classes, or of nothing."""
        semantic = self.recipe.conditioning.semantic
        return semantic if isinstance(semantic, TextSemantic) else None

    @cached_property
    def text_fingerprint(self) -> str:
        """Digest of the text encoder's files.

        Raises:
            ValueError: that of a trained model is not there.
        """
        if self.known is None:
            return encoder_fingerprint(self.located.text)
        self.known.check_text_place(self.recipe, self.located)
        with self.known.naming_text_source(self.located):
            return encoder_fingerprint(self.located.text)

    @cached_property
    def text_encoder(self) -> TextEncoder:
        """Frozen, on the device; not loaded where all captions are cached.

        Raises:
            ValueError: that of a trained model is not there.
        """
        assert self.text_rule is not None
        if self.known is not None:
            self.known.check_text(
                self.recipe, self.located, lambda: self.text_fingerprint, self.console
            )
        with nullcontext() if self.known is None else self.known.naming_text_source(self.located):
            encoder = TextEncoder(self.located.text, self.device)
        check_encoder(encoder, self.text_rule)
        return encoder

    def say_cut(self, cuts: Sequence[CutCaption]) -> None:
        """Name prompts that are longer than the model reads, each of them once."""
        new = [one for one in cuts if one.caption not in self._said]
        self._said |= {one.caption for one in new}
        for line in cut_notes(new):
            note(self.console, line, label="prompt cut:")

    def say_cut_captions(self) -> None:
        """Count the captions of training images that are longer than the model reads."""
        for line in self.captions.cut_lines() if self.captions is not None else ():
            note(self.console, line, label="captions cut:")

    @cached_property
    def captions(self) -> PictureCaptions | None:
        """Of the training pictures, for a model of text."""
        return self._captions_of(self.train_source, self.builders) if self.text_rule else None

    @cached_property
    def held_out_captions(self) -> PictureCaptions | None:
        """Of the held-out pictures, for a model of text."""
        return self._captions_of(self.held_out_source, ONE_BUILDER) if self.text_rule else None

    def restore_null(self, model: LatentDenoiser) -> None:
        """Give a trained model its null caption's mask, which is not among its weights, without
        the images: from its record, or from the encoder's empty caption."""
        rule = self.text_rule
        if rule is None or rule.null != "empty":
            return
        if not self.captions_at_hand:  # converted weights lack the features too
            self.set_null(model)
            return
        inputs = self.known.inputs if self.known is not None else None
        if inputs is None:
            mask = prompt_features(self.text_encoder, rule, [""], [0]).mask
            model.conditioner.set_null_mask(None if mask is None else mask[0])
        else:
            mask = None if inputs.null_mask is None else torch.tensor(inputs.null_mask)
            model.conditioner.set_null_mask(mask)

    def model_with_null(self) -> LatentDenoiser:
        """A new model with its null caption: what weights can be put into that lack its mask."""
        model = self.new_model()
        self.set_null(model)
        return model

    def set_null(self, model: LatentDenoiser) -> None:
        """Give a model of text its null caption, where that is the encoder's empty one.

        Call it again whenever weights were loaded: converted ones do not hold it.
        """
        rule = self.text_rule
        if rule is None or rule.null != "empty":
            return
        if self.captions_at_hand:
            assert self.captions is not None
            model.conditioner.set_null(self.captions.empty())
        else:
            model.conditioner.set_null(prompt_features(self.text_encoder, rule, [""], [0]))

    @property
    def captions_at_hand(self) -> bool:
        """Whether there are pictures with captions."""
        return not isinstance(self.recipe.data, NoDataConfig)

    def _captions_of(self, source: PictureSource, builders: Builders) -> PictureCaptions:
        assert self.text_rule is not None
        builders.wait()
        hidden = not builders.first
        with Progress(console=self.console, transient=True, disable=hidden) as progress:
            task = progress.add_task("encoding captions", total=None, visible=False)
            return PictureCaptions(
                source,
                self.located.text,
                self.text_rule,
                lambda: self.text_encoder,
                self.recipe.seed,
                lambda done, total: progress.update(
                    task, completed=done, total=total, visible=True
                ),
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

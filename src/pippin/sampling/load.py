# SPDX-License-Identifier: Apache-2.0
"""A trained run, ready to sample from and to evaluate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from pippin.control import recorded_fields
from pippin.data.record import find_label
from pippin.model import LatentDenoiser
from pippin.recipes.recipe import Recipe
from pippin.runs.components import Components
from pippin.runs.exports import describe_weights, unverified_note
from pippin.runs.latents import check_latents
from pippin.runs.trained import load_trained_weights
from pippin.sampling.autoguidance import Guide, check_solver, load_guide
from pippin.sampling.config import (
    GuideChoice,
    SamplingConfig,
    check_guidance,
    check_requested_size,
)
from pippin.sampling.group import SINGLE_PROCESS, SamplingGroup
from pippin.sampling.run_facts import run_facts
from pippin.sampling.sampler import Sampler
from pippin.sampling.trained_components import trained_components
from pippin.system.display import fact_lines, fact_rows, html_table, markdown_table
from pippin.system.tensors import tensors_digest
from pippin.system.text import print_above_progress


@dataclass(frozen=True, kw_only=True)
class LoadedRun:
    """A model with the weights of one checkpoint, and the components of its training."""

    recipe: Recipe
    components: Components
    model: LatentDenoiser
    weights: str
    """Their name, see :data:`pippin.settings.weights.WEIGHTS`, or untrained."""
    sha256: str | None = None
    """Their digest, see :attr:`pippin.runs.trained.Trained.sha256`; None where the model makes
    neither files nor measures."""
    average: str | None = None
    """Name of the average that ``ema`` weights are, where it is known."""
    start: str | None = None
    """Digest of the initial weights; None for a run from scratch, or where it is unknown."""
    images_seen: int
    """Images that this run has seen."""
    images_before: int | None = 0
    """Images that all ancestors of the initial weights have seen; None where some are unknown."""
    sampling_group: SamplingGroup = SINGLE_PROCESS
    """The ranks that sample into folders together."""
    source: str = ""
    """Where the weights come from; empty = nowhere that they can be loaded from again."""
    checkpoint: int | None = None
    """Images seen of the chosen checkpoint; None = the newest good one."""
    autoencoder: str | None = None
    """Folder or name of another autoencoder than the run's own."""
    _guides: dict[GuideChoice, Guide] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def in_training(
        cls, components: Components, model: LatentDenoiser, images_seen: int
    ) -> "LoadedRun":
        """A run that is still training, without autoguidance: its guide may not exist yet.

        Args:
            components: components of the run.
            model: with the averaged weights.
            images_seen: number of images that the run has seen.
        """
        recipe = components.recipe
        return cls(
            recipe=replace(recipe, sampling=recipe.sampling.without_guide()),
            components=components,
            model=model,
            weights="ema",
            images_seen=images_seen,
        )

    def sampler(self, config: SamplingConfig) -> Sampler:
        """Build a sampler with the schedule and prediction type of the training.

        Raises:
            ConfigError: guidance by a condition that the model does not have or never drops, or a
                requested size that it cannot read.
            ValueError: as :meth:`guide`.
        """
        check_guidance(config, self.recipe.conditioning)
        check_requested_size(config, self.recipe.conditioning)
        schedule, prediction = self.components.schedule, self.recipe.diffusion.prediction
        guide = self.guide(config)
        return Sampler(
            self.model, schedule, prediction, config, None if guide is None else guide.model
        )

    def guide(self, config: SamplingConfig) -> Guide | None:
        """The weaker model of autoguidance, loaded once; None where none guides.

        Raises:
            ValueError: as :func:`pippin.sampling.autoguidance.load_guide` and ``check_solver``.
        """
        if not config.autoguided:
            return None
        choice = config.guide_choice
        if choice not in self._guides:
            self._guides[choice] = load_guide(self, choice, load_run)
        guide = self._guides[choice]
        check_solver(guide, config)
        return guide

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Weights and text encoder files: the protocol entries of :data:`pippin.config.IDENTITY`
        that the run has."""
        assert self.sha256 is not None
        text = None if self.components.text_rule is None else self.components.text_fingerprint
        entries = {
            "model.sha256": self.sha256,
            "model.average": self.average,
            "model.start": self.start,
            "model.text_encoder": text,
        }
        return {name: value for name, value in entries.items() if value is not None}

    @property
    def description(self) -> str:
        """Description of the weights and their number of images, for messages."""
        return describe_weights(self.weights, self.average, self.images_seen)

    @cached_property
    def control_names(self) -> tuple[str, ...]:
        """The recorded control fields that the model reads, or that its fields derive from."""
        control = self.recipe.conditioning.control
        shape = ("original_size", "crop_size") if self.recipe.conditioning.image_shape else ()
        return recorded_fields([*control.fields, *shape])

    @cached_property
    def read_names(self) -> tuple[str, ...]:
        """The control fields that the model reads."""
        conditioning = self.recipe.conditioning
        shape = ("original_size",) if conditioning.image_shape else ()
        return (*conditioning.control.fields, *shape)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class id -> name, as the run was trained."""
        return self.components.class_names

    @property
    def num_classes(self) -> int:
        """Number of classes of the model."""
        return self.components.num_classes

    def _repr_html_(self) -> str:
        """Table of facts for a notebook."""
        return html_table((), fact_rows(run_facts(self)))

    def _repr_markdown_(self) -> str:
        """The same where Markdown is shown."""
        return markdown_table((), fact_rows(run_facts(self)))

    def __repr__(self) -> str:
        """The same as lines, instead of all settings and tensors."""
        return fact_lines(run_facts(self))

    def label_id(self, label: str) -> int:
        """Class id of a name, or of an id where no name is a number; see :func:`find_label`.

        Raises:
            ValueError: no such class; the message lists them.
        """
        return find_label(label, self.class_names)


def load_run(
    source: Path | str,
    weights: str | None = None,
    console: Console | None = None,
    recipe: Recipe | None = None,
    sampling_group: SamplingGroup = SINGLE_PROCESS,
    *,
    data_path: str | None = None,
    autoencoder: str | None = None,
    checkpoint: int | None = None,
) -> LoadedRun:
    """Load the newest good checkpoint of a run folder, or an exported, shipped or hub model.

    Args:
        source: a run folder, an exported folder, a name that starts with ``pippin/``, or a model
            of the hub, ``hf://USER/NAME`` or ``hf://USER/NAME@REVISION``.
        weights: ema, raw, or the name of a further average; None = the weights of an exported
            model, and ema of a run.
        console: for messages.
        recipe: the recorded one, with other sampling or evaluation; None = as recorded.
        sampling_group: ranks that all load the run; only rank 0 logs.
        data_path: folder of the training images; None = where the run found them. They are opened
            only where they are needed.
        autoencoder: a folder or name; None = the run's.
        checkpoint: images seen of a run's checkpoint; None = the newest good one.

    Raises:
        ValueError: unknown source, or no undamaged checkpoint.
    """
    console = console or Console(stderr=True, quiet=not sampling_group.world.is_rank0)
    trained = load_trained_weights(str(source), weights, checkpoint)
    for problem in trained.skipped_checkpoints:
        print_above_progress(console, problem, label="skipped checkpoint:")
    if not trained.verified:
        print_above_progress(console, unverified_note(trained.source), label="no checksum:")
    recipe = recipe or trained.recipe
    components = trained_components(trained, recipe, console, data_path, autoencoder)
    own = components.raw_autoencoder
    try:
        check_latents(trained.latents, components.located.autoencoder, own)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    model = components.new_model()
    trained.load_into(model)
    components.restore_null(model)
    return LoadedRun(
        recipe=components.recipe,
        components=components,
        model=model.eval(),
        weights=trained.weights,
        sha256=trained.sha256,
        average=trained.average,
        start=trained.lineage[-1].get("sha256") if trained.lineage else None,
        images_seen=trained.images_seen,
        images_before=images_before(trained.lineage),
        sampling_group=sampling_group,
        source=trained.source,
        checkpoint=checkpoint,
        autoencoder=autoencoder,
    )


def images_before(lineage: Sequence[Mapping[str, Any]]) -> int | None:
    """Images that all ancestors together have seen; None where one of them is unknown."""
    seen = [int(parent["images_seen"]) for parent in lineage]
    return sum(seen) if all(seen) else None


def untrained_run(
    recipe: Recipe,
    console: Console,
    sampling_group: SamplingGroup = SINGLE_PROCESS,
    components: Components | None = None,
) -> LoadedRun:
    """The same model with its initial weights, without autoguidance: the floor of every measure.

    Args:
        recipe, console: of the run.
        sampling_group: as for :func:`load_run`.
        components: components of the trained run, to share; None = new ones.
    """
    components = components or Components(recipe, console)
    model = components.new_model()
    digest = tensors_digest(dict(model.named_parameters()))
    components.set_null(model)
    return LoadedRun(
        recipe=replace(recipe, sampling=recipe.sampling.without_guide()),
        components=components,
        model=model.eval(),
        weights="untrained",
        sha256=digest,
        images_seen=0,
        sampling_group=sampling_group,
    )

# SPDX-License-Identifier: Apache-2.0
"""A trained run, ready to sample from and to measure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from pippin.control import recorded
from pippin.encoders.statistics import LatentStatistics
from pippin.model import LatentDenoiser
from pippin.recipes.recipe import Recipe
from pippin.run.crew import NOBODY, Crew
from pippin.run.latents import check_latents
from pippin.run.parts import Parts
from pippin.run.trained import open_trained
from pippin.sampling.config import SamplingConfig, check_guidance
from pippin.sampling.sampler import Sampler


@dataclass(frozen=True, kw_only=True)
class LoadedRun:
    """A model with the weights of one checkpoint, and the parts it was trained with."""

    recipe: Recipe
    parts: Parts
    model: LatentDenoiser
    weights: str
    """Their name, see :data:`pippin.config.WEIGHTS`, or untrained."""
    images_seen: int
    """By this run."""
    images_before: int | None = 0
    """By all weights that the run's start descends from; None where some ancestor's are not known.
    """
    crew: Crew = NOBODY
    """The processes that draw its images into folders together."""

    def sampler(self, config: SamplingConfig) -> Sampler:
        """A sampler with the schedule and prediction type of the training.

        Raises:
            ConfigError: guidance by a condition that the model does not have or never dropped.
        """
        check_guidance(config, self.recipe.conditioning)
        return Sampler(self.model, self.parts.schedule, self.recipe.diffusion.prediction, config)

    @cached_property
    def control_names(self) -> tuple[str, ...]:
        """The recorded control fields that the model reads, or that these are computed from."""
        control = self.recipe.conditioning.control
        shape = ("original_size", "crop_size") if self.recipe.conditioning.image_shape else ()
        return recorded([*control.high, *control.low, *shape])

    @cached_property
    def read_names(self) -> tuple[str, ...]:
        """The control fields the model reads themselves."""
        conditioning = self.recipe.conditioning
        shape = ("original_size",) if conditioning.image_shape else ()
        return (*conditioning.control.high, *conditioning.control.low, *shape)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class id -> name."""
        return self.parts.class_names

    def label_id(self, label: str) -> int:
        """A class by name or number.

        Raises:
            ValueError: no such class; the message lists them.
        """
        if label in self.class_names:
            return self.class_names.index(label)
        if label.isdigit() and int(label) < len(self.class_names):
            return int(label)
        listed = ", ".join(f"{number} {name}" for number, name in enumerate(self.class_names))
        raise ValueError(f"no class {label!r}; there are: {listed}")


def load_run(
    source: Path | str,
    weights: str = "ema",
    console: Console | None = None,
    recipe: Recipe | None = None,
    crew: Crew = NOBODY,
) -> LoadedRun:
    """The newest good checkpoint of a run folder, or an exported or shipped model.

    Args:
        source: a run folder, an exported folder, or a name that starts with ``pippin/``.
        weights: ema, raw, or the name of a further average.
        console: for messages.
        recipe: the recorded one, with its sampling or evaluation replaced; None = as recorded.
        crew: processes that all load the run; the first one speaks.

    Raises:
        ValueError: nothing of that name, or no checkpoint in it whose bytes are whole.
    """
    console = console or Console(stderr=True, quiet=not crew.world.first)
    trained = open_trained(str(source), weights)
    for problem in trained.passed_over:
        console.print(f"[yellow]passed over:[/] {problem}")
    parts = Parts(recipe or trained.recipe, console, latents=trained.latents)
    try:
        check_latents(trained.latents, parts.recipe.autoencoder, parts.raw_autoencoder)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    model = parts.new_model()
    trained.load_into(model)
    with crew.world.first_alone():  # captions that are not cached yet are encoded by one process
        parts.set_null(model)
    return LoadedRun(
        recipe=parts.recipe,
        parts=parts,
        model=model.eval(),
        weights=weights,
        images_seen=trained.images_seen,
        images_before=images_before(trained.lineage),
        crew=crew,
    )


def images_before(lineage: Sequence[Mapping[str, Any]]) -> int | None:
    """Images that all ancestors together have seen; None where those of one are not known."""
    seen = [int(parent["images_seen"]) for parent in lineage]
    return sum(seen) if all(seen) else None


def untrained_run(
    recipe: Recipe,
    console: Console,
    crew: Crew = NOBODY,
    latents: LatentStatistics | None = None,
) -> LoadedRun:
    """The same model at its initial weights: the floor of every measure. ``latents``: of the
    trained one, where they are measured; None = they are measured here."""
    parts = Parts(recipe, console, latents=latents)
    model = parts.model_with_null().eval()
    return LoadedRun(
        recipe=recipe, parts=parts, model=model, weights="untrained", images_seen=0, crew=crew
    )

# SPDX-License-Identifier: Apache-2.0
"""Measures from denoising held-out images: the loss, and the control profile."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from pippin.data.moments import EncodedViews, MomentBatch, cat_batches
from pippin.data.source import ImageSource, fixed_subset
from pippin.data.views.views import square_size
from pippin.evaluation.measure import Measure, Subject
from pippin.evaluation.metrics.control_profile import (
    FieldErrors,
    changed_rows,
    profile_measures,
    wrong_values,
)
from pippin.evaluation.metrics.denoising import denoising_errors, denoising_loss, noise_levels
from pippin.evaluation.runs.protocol import noise_seed
from pippin.model import LatentDenoiser
from pippin.objective.losses import Predict
from pippin.runs.components import Components
from pippin.types import Conditions, ControlBatch


class HeldOut:
    """View 0 of held-out images, always square: posterior mean, label and control.

    At most ``evaluation.held_out_images`` images, because rank 0 encodes them while the others
    wait.
    """

    def __init__(self, components: Components) -> None:
        self.components = components
        source = components.held_out_source
        views = EncodedViews(
            source, components.autoencoder, device=components.device, size=square_size(source)
        )
        self.images = held_out_rows(source, components.recipe.evaluation.held_out_images)
        # The views of one encoded batch are in memory at a time.
        parts = [
            views.fetch(rows, torch.zeros_like(rows))
            for rows in self.images.split(views.encode_batch)
        ]
        self.batch: MomentBatch = cat_batches(parts)
        mean = self.batch.moments.mean.to(components.device)
        self.latents = components.autoencoder.normalise(mean)

    def losses(self, model: LatentDenoiser, subject: Subject = "arm") -> list[Measure]:
        """All measures of :func:`denoising_loss`, with all conditions.

        Their protocols record ``evaluation.seed`` instead of the seed derived from the training
        seed, so that runs of several training seeds can be compared.
        """
        recipe = self.components.recipe
        measures = denoising_loss(
            partial(self._predict_for, model, self.batch.control),
            self.latents,
            self.components.schedule,
            recipe.diffusion.prediction,
            recipe.evaluation.loss_log_snrs,
            seed=noise_seed(recipe),
            batch_size=recipe.evaluation.batch_size,
            subject=subject,
        )
        shared = {"seed": recipe.evaluation.seed} | self._selection
        return [replace(measure, protocol=measure.protocol | shared) for measure in measures]

    def control_profile(self, model: LatentDenoiser, fields: Sequence[str]) -> list[Measure]:
        """All measures of :func:`pippin.evaluation.metrics.control_profile.profile_measures`,
        field by field, with all semantic conditions."""
        recipe, schedule = self.components.recipe, self.components.schedule
        config, right = recipe.evaluation, self.batch.control
        levels = noise_levels(schedule, config.profile_log_snrs)

        def x0_errors(control: ControlBatch) -> Tensor:
            _, values = denoising_errors(
                partial(self._predict_for, model, control),
                self.latents,
                schedule,
                recipe.diffusion.prediction,
                levels,
                seed=noise_seed(recipe),
                batch_size=config.batch_size,
            )
            return values

        right_errors = x0_errors(right)
        measures = []
        for field in fields:
            wrong = wrong_values(right, field)
            field_errors = FieldErrors(
                field=field,
                right=right_errors,
                wrong=x0_errors(wrong),
                changed=changed_rows(right, wrong, field),
            )
            measures += profile_measures(
                field_errors, levels, seed=config.seed, protocol=self._selection
            )
        return measures

    @property
    def _selection(self) -> dict[str, Any]:
        """Protocol entry for a subset; sets measured as a whole have none, as before there were
        subsets."""
        count, total = len(self.images), len(self.components.held_out_source)
        return {} if count == total else {"held_out_images": count}

    def _predict_for(self, model: LatentDenoiser, control: ControlBatch, rows: Tensor) -> Predict:
        """The model's prediction for some rows, with their conditions and given control values."""
        text = None
        if self.components.held_out_captions is not None:
            text = self.components.held_out_captions.measured(self.images[rows.cpu()])
        conditions = Conditions(
            label=self.batch.label[rows],
            text=text,
            control={name: value[rows] for name, value in control.items()},
        )
        prepared = model.prepare(conditions)
        return lambda x_t, t: model(x_t, t, prepared)


def held_out_rows(source: ImageSource, count: int) -> Int[Tensor, " images"]:
    """Indices of the measured images, ascending: all, or ``count`` with the smallest hashes."""
    if len(source) <= count:
        return torch.arange(len(source))
    return torch.tensor(fixed_subset(range(len(source)), count, source.key))

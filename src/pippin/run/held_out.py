# SPDX-License-Identifier: Apache-2.0
"""The held-out denoising loss of a model under a recipe."""

import torch
from torch import Tensor

from pippin.data.moments import EncodedViews, MomentBatch
from pippin.data.views import square
from pippin.evaluation.denoising import denoising_loss
from pippin.evaluation.measure import Measure, Subject
from pippin.model import LatentDenoiser
from pippin.objective import Predict
from pippin.run.parts import Parts
from pippin.types import Conditions


class HeldOut:
    """View 0 of every held-out picture, a square whatever the buckets: its posterior mean and its
    own label and control."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        source = parts.held_out_source
        views = EncodedViews(source, parts.autoencoder, device=parts.device, size=square(source))
        rows = torch.arange(len(source))
        self.batch: MomentBatch = views.fetch(rows, torch.zeros_like(rows))
        mean = self.batch.moments.mean.to(parts.device)
        self.latents = parts.autoencoder.normalise(mean)

    def losses(self, model: LatentDenoiser, subject: Subject = "arm") -> list[Measure]:
        """All measures of :func:`denoising_loss`, conditions kept."""
        recipe = self.parts.recipe

        def predict_for(rows: Tensor) -> Predict:
            control = {name: value[rows] for name, value in self.batch.control.items()}
            text = None
            if self.parts.held_out_captions is not None:
                text = self.parts.held_out_captions.measured(rows.cpu())
            label = self.batch.label[rows]
            prepared = model.prepare(Conditions(label=label, text=text, control=control))
            return lambda x_t, t: model(x_t, t, prepared)

        return denoising_loss(
            predict_for,
            self.latents,
            self.parts.schedule,
            recipe.diffusion.prediction,
            recipe.evaluation.loss_log_snrs,
            seed=recipe.evaluation.seed,
            batch_size=recipe.evaluation.batch_size,
            subject=subject,
        )

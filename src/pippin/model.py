# SPDX-License-Identifier: Apache-2.0
"""Model of a checkpoint: a conditioner and a denoiser."""

from torch import nn

from pippin.conditioning.conditioner import Conditioner, Prepared, find_conditioner, keep_all
from pippin.conditioning.config import ConditioningConfig
from pippin.conditioning.control_embedding import LogSnr
from pippin.denoisers.config import DenoiserConfig
from pippin.denoisers.denoiser import Denoiser
from pippin.denoisers.registry import build_denoiser
from pippin.nn.initialise import initialise
from pippin.types import Conditions, Keep, Latents, Masking, Prediction, Times


class LatentDenoiser(nn.Module):
    """Denoiser with its conditioner: noisy latents, time and conditions to a prediction."""

    def __init__(self, conditioner: Conditioner, denoiser: Denoiser) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.denoiser = denoiser

    def prepare(self, conditions: Conditions, keep: Keep | None = None) -> Prepared:
        """Embed the conditions, which do not depend on time; ``keep`` None keeps all."""
        if keep is None:
            keep = keep_all(_batch_size(conditions))
        return self.conditioner.prepare(conditions, keep)

    def forward(
        self, x_t: Latents, t: Times, prepared: Prepared, masking: Masking | None = None
    ) -> Prediction:
        """Predict from a noisy latent at time t in [0, 1000].

        Args:
            masking: makes a masked model return its second prediction, ``aux``.
        """
        return self.denoiser(x_t, prepared.at(t), masking)


def _batch_size(conditions: Conditions) -> int:
    tensors = list(conditions.columns().values())
    if not tensors:
        raise ValueError(
            "conditions without label, text and control do not give the batch size; pass keep"
        )
    return len(tensors[0])


def build_model(
    conditioning: ConditioningConfig,
    denoiser: DenoiserConfig,
    *,
    num_classes: int,
    latent_channels: int,
    seed: int | None,
    log_snr: LogSnr | None = None,
) -> LatentDenoiser:
    """Model with initial weights; seed None keeps the initial weights of torch (for loading).

    Args:
        log_snr: log-SNR of the noise schedule, for gates defined in log-SNR.

    Raises:
        ConfigError: conditioning and denoiser do not fit, or the conditioner is not registered.
    """
    denoiser_module = build_denoiser(denoiser, latent_channels)
    conditioner = find_conditioner(conditioning.conditioner)(
        conditioning,
        num_classes=num_classes,
        token_width=denoiser_module.widths.token,
        modulation_width=denoiser_module.widths.modulation,
        time_features=denoiser_module.widths.time_features,
        token_use=denoiser_module.token_use,
    )
    conditioner.log_snr = log_snr
    conditioner.time.input = denoiser_module.time_input
    model = LatentDenoiser(conditioner, denoiser_module)
    if seed is not None:
        initialise(model, seed)
    return model

# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint holds: a conditioner and a denoiser that fit each other."""

from torch import nn

from pippin.conditioning.conditioner import Conditioner, Prepared, keep_all
from pippin.conditioning.config import ConditioningConfig
from pippin.conditioning.gates import LogSnr
from pippin.conditioning.registry import find_conditioner
from pippin.denoisers.config import DenoiserConfig
from pippin.denoisers.denoiser import Denoiser
from pippin.denoisers.registry import build_denoiser
from pippin.nn.initialise import initialise
from pippin.types import Conditions, Keep, Latents, Masking, Prediction, Times


class LatentDenoiser(nn.Module):
    """Noisy latents, time and conditions to a prediction."""

    def __init__(self, conditioner: Conditioner, denoiser: Denoiser) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.denoiser = denoiser

    def prepare(self, conditions: Conditions, keep: Keep | None = None) -> Prepared:
        """What does not depend on time; ``keep`` None keeps all conditions."""
        if keep is None:
            keep = keep_all(_batch_size(conditions))
        return self.conditioner.prepare(conditions, keep)

    def forward(
        self, x_t: Latents, t: Times, prepared: Prepared, masking: Masking | None = None
    ) -> Prediction:
        """Predict from a noisy latent at time t in [0, 1000].

        Args:
            masking: asks a masked model for its second prediction, ``aux``.
        """
        return self.denoiser(x_t, prepared.at(t), masking)


def _batch_size(conditions: Conditions) -> int:
    tensors = list(conditions.columns().values())
    if not tensors:
        raise ValueError(
            "conditions without label, text and control do not say how many images; pass keep"
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
    """A model with its initial weights; seed None leaves them as torch's layers do (for loading).

    Args:
        log_snr: of the noise schedule, for gates stated in log-SNR.

    Raises:
        ConfigError: conditioning and denoiser do not fit, or a conditioner that nobody registered.
    """
    body = build_denoiser(denoiser, latent_channels)
    door = find_conditioner(conditioning.conditioner)(
        conditioning,
        num_classes=num_classes,
        token_width=body.widths.token,
        modulation_width=body.widths.modulation,
        time_features=body.widths.time_features,
        token_use=body.token_use,
    )
    door.log_snr = log_snr
    model = LatentDenoiser(door, body)
    if seed is not None:
        initialise(model, seed)
    return model

# SPDX-License-Identifier: Apache-2.0
"""Model of a checkpoint: a conditioner and a denoiser."""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from pippin.conditioning.conditioner import Conditioner, Prepared, find_conditioner, keep_all
from pippin.conditioning.config import ConditioningConfig
from pippin.conditioning.control_embedding import LogSnr
from pippin.denoisers.config import DenoiserConfig
from pippin.denoisers.denoiser import Denoiser
from pippin.denoisers.registry import build_denoiser
from pippin.nn.initialise import initialise
from pippin.nn.projector import TokenProjector
from pippin.types import Conditions, Keep, Latents, Masking, Prediction, Times

PROJECTOR = "projector."
"""Prefix of the names of parameters that training alone uses: those of REPA's projector."""
CLASS_TABLES = ("conditioner.label_vector.weight", "conditioner.label_tokens.weight")
"""Names of the tables of class embeddings; the last row is the null class."""


class LatentDenoiser(nn.Module):
    """Denoiser with its conditioner: noisy latents, time and conditions to a prediction."""

    projector: TokenProjector | None
    """Projector of the tokens of the denoiser's aligned block, while a run with REPA trains. It is
    neither averaged nor sampled."""

    def __init__(self, conditioner: Conditioner, denoiser: Denoiser) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.denoiser = denoiser
        self.projector = None

    def prepare(self, conditions: Conditions, keep: Keep | None = None) -> Prepared:
        """Embed the conditions, which do not depend on time; ``keep`` None keeps all."""
        if keep is None:
            keep = keep_all(_batch_size(conditions))
        return self.conditioner.prepare(conditions, keep)

    def forward(
        self,
        x_t: Latents,
        t: Times,
        prepared: Prepared,
        masking: Masking | None = None,
        interval: Times | None = None,
    ) -> Prediction:
        """Predict from a noisy latent at time t in [0, 1000].

        Args:
            masking: makes a masked model return its second prediction, ``aux``.
            interval: t - r, in the unit of t; the prediction is then the mean velocity from r to
                t (MeanFlow). None: the prediction at t.
        """
        embedded = prepared.at(t) if interval is None else prepared.at(t, interval)
        return self.denoiser(x_t, embedded, masking)


def sampled_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Named parameters of a model that sampling uses: all but those of a projector."""
    return (pair for pair in model.named_parameters() if not pair[0].startswith(PROJECTOR))


def sampled_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stored weights by name, without those of a projector."""
    return {name: value for name, value in tensors.items() if not name.startswith(PROJECTOR)}


def stored_num_classes(shapes: Mapping[str, Sequence[int]]) -> int | None:
    """Number of classes by the class table of stored weights; None for a model that has none.

    Args:
        shapes: shape of each tensor, by name.
    """
    rows = [shapes[name][0] for name in CLASS_TABLES if name in shapes]
    return rows[0] - 1 if rows else None


def attach_projector(
    model: LatentDenoiser, projector: TokenProjector, block: int, seed: int | None
) -> None:
    """Let a model train with a projector of the tokens of one block of its denoiser.

    Args:
        model: on its device.
        projector: on any device.
        block: number of the block, from 1.
        seed: seed of the projector's initial weights; None keeps those of torch.
    """
    if seed is not None:
        initialise(nn.ModuleDict({PROJECTOR.rstrip("."): projector}), seed)
    model.projector = projector.to(next(model.parameters()).device)
    model.denoiser.aligned_block = block


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

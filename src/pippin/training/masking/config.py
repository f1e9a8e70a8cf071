# SPDX-License-Identifier: Apache-2.0
"""Configuration of deferred masking (Sehwag et al. 2024, arXiv 2407.15811)."""

from dataclasses import dataclass

from pippin.config import Config, ConfigError


@dataclass(frozen=True, kw_only=True)
class MaskingConfig(Config):
    """Deferred masking: the denoiser's blocks after its patch mixer read a random subset of the
    tokens, and the loss counts their patches only. Validation and sampling read all tokens."""

    ratio: float = 0.0
    """Share of hidden tokens; published: 0.75. 0 = no masking."""
    unmasked_share: float = 0.0
    """Last share of the run, which trains on all tokens; published: 30 000 of 280 000 steps."""

    def __post_init__(self) -> None:
        """Refuse shares outside [0, 1), and an unmasked share without masking."""
        for name in ("ratio", "unmasked_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"train.masking.{name} must be 0 or more and below 1; got "
                    f"{getattr(self, name)}"
                )
        if self.unmasked_share and not self.ratio:
            raise ConfigError(
                "train.masking.unmasked_share has no effect while train.masking.ratio is 0; got "
                f"{self.unmasked_share}: set --train.masking.ratio 0.75, or leave it out"
            )

    @property
    def enabled(self) -> bool:
        """Whether some steps hide tokens."""
        return self.ratio > 0

    @property
    def lowest_ratio(self) -> float:
        """Smallest share of hidden tokens in the run, at which a step needs the most memory."""
        return 0.0 if self.unmasked_share else self.ratio

    def ratio_at(self, step: int, total_steps: int) -> float:
        """Share of hidden tokens at a step, counted from 0."""
        return self.ratio if step < round((1 - self.unmasked_share) * total_steps) else 0.0

    def mean_cost(self, unmasked: int, masked: int) -> int:
        """Mean over the run of an image's cost.

        Args:
            unmasked: cost with all tokens.
            masked: cost at the share ``ratio`` of hidden tokens.
        """
        return round(masked + self.unmasked_share * (unmasked - masked))


NO_MASKING = MaskingConfig()

# SPDX-License-Identifier: Apache-2.0
"""Names of weights."""

import re

from pippin.config import Config, ConfigError

UNKNOWN_WEIGHTS = "unknown"
"""Weights of other code whose file does not say whether they are raw or averaged."""
WEIGHTS = re.compile(rf"raw|ema(-images-\d+|-(share|power)-\d[\d.e-]*)?|{UNKNOWN_WEIGHTS}")
"""Names of weights: raw, their average, further averages by half-life or relative width, and
converted weights of unknown kind."""


def check_weights_name(config: Config, section: str) -> None:
    """Refuse a setting ``weights`` that is not a valid name of weights; for ``__post_init__``.

    Raises:
        ConfigError: an invalid name; the message lists the valid ones.
    """
    value = getattr(config, "weights")  # noqa: B009 (not every configuration has it)
    if WEIGHTS.fullmatch(value) is None:
        raise ConfigError(
            f"{section}.weights must be ema, raw, or a further average of train.ema_extra such as "
            f"ema-share-0.1, ema-images-500000 or ema-power-0.1; got {value!r}"
        )

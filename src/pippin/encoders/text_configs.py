# SPDX-License-Identifier: Apache-2.0
"""Types of text encoders, and the values of their config.json. Imports no torch."""

from collections.abc import Mapping
from typing import Any

KINDS = {"bert": "bert", "clip": "clip", "clip_text_model": "clip", "t5": "t5"}
"""model_type of a config.json -> type of encoder."""
DEFAULTS: dict[str, dict[str, int]] = {
    "bert": {"max_position_embeddings": 512},
    "clip": {"hidden_size": 512, "projection_dim": 512, "max_position_embeddings": 77},
    "t5": {},
}
"""Type of encoder -> values that a config.json may leave out. Newer versions of transformers write
no defaults of the text tower of a CLIP that has an image tower too."""


def text_values(values: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Values of the text encoder: of a CLIP with an image tower, those of its text tower.

    Args:
        values: a config.json.
        kind: type of encoder, see :data:`KINDS`.

    Raises:
        TypeError, ValueError: ``text_config`` is not an object.
    """
    own = values.get("text_config", values) if kind == "clip" else values
    return DEFAULTS[kind] | dict(own)

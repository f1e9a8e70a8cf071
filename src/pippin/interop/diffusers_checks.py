# SPDX-License-Identifier: Apache-2.0
"""Checks that diffusers' model classes can represent a pippin model."""

from pippin.conditioning.config import TextSemantic
from pippin.config import ConfigError
from pippin.interop.arguments import ModelSpec


def require_supported(possible: bool, setting: str) -> None:
    """Refuse a setting that no class of diffusers has.

    Raises:
        ConfigError: not possible; the setting is named.
    """
    if not possible:
        raise ConfigError(
            f"diffusers has no model class for {setting}; export without --to keeps everything"
        )


def text_semantic(model: ModelSpec, projection: str) -> TextSemantic:
    """Text settings of a model, with the only projection that its class supports.

    Raises:
        ConfigError: the model reads no text tokens, or has another projection.
    """
    semantic = model.conditioning.semantic
    if not isinstance(semantic, TextSemantic) or semantic.token_features is None:
        raise ConfigError(
            f"diffusers' {model.denoiser.kind} reads text tokens; conditioning.semantic is "
            f"{semantic.kind} here; export without --to keeps everything"
        )
    require_supported(
        semantic.projection == projection,
        f"conditioning.semantic.projection {semantic.projection}",
    )
    return semantic

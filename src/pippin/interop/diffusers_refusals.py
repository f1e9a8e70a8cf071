# SPDX-License-Identifier: Apache-2.0
"""What diffusers' model classes cannot say of a model of ours."""

from pippin.conditioning.config import TextSemantic
from pippin.config import ConfigError
from pippin.interop.arguments import Configured


def refuse_unless(possible: bool, setting: str) -> None:
    """Refuse a setting, by its name, that no class has.

    Raises:
        ConfigError: not possible.
    """
    if not possible:
        raise ConfigError(
            f"diffusers has no model class for {setting}; export without --to keeps everything"
        )


def text_of(model: Configured, projection: str) -> TextSemantic:
    """How a model reads text tokens, by the one projection that its class has.

    Raises:
        ConfigError: it reads none, or projects them in another way.
    """
    semantic = model.conditioning.semantic
    if not isinstance(semantic, TextSemantic) or semantic.token_features is None:
        raise ConfigError(
            f"diffusers' {model.denoiser.kind} reads text tokens; conditioning.semantic is "
            f"{semantic.kind} here; export without --to keeps everything"
        )
    refuse_unless(
        semantic.projection == projection,
        f"conditioning.semantic.projection {semantic.projection}",
    )
    return semantic

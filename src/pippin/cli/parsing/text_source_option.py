# SPDX-License-Identifier: Apache-2.0
"""``--text-source``, for the verbs that use a trained text-to-image model."""

from dataclasses import dataclass, replace
from typing import Literal

from pippin.config import ConfigError
from pippin.encoders.config import TextConfig


@dataclass(frozen=True, kw_only=True)
class TextSourceOption:
    """Base class of the commands with this option."""

    text_source: tuple[str, ...] = ()
    """For a converted text-to-image model: its text encoders; see text.source of recipes."""
    text_combine: Literal["features", "sd3"] | None = None
    """Combination of the features of several encoders, if not as in the recipe."""

    def with_text_source(self, text: TextConfig) -> TextConfig:
        """Text settings of a recipe with the encoders that the command names, if it does.

        Raises:
            ConfigError: a combination without encoders.
        """
        if self.text_source:
            combine = self.text_combine or text.combine
            return replace(text, source=self.text_source, combine=combine)
        if self.text_combine:
            raise ConfigError("--text-combine has no effect without --text-source: give both")
        return text

# SPDX-License-Identifier: Apache-2.0
"""Base of pippin's own networks in the place of an AutoencoderKL: configuration and outputs."""

import json
from dataclasses import dataclass
from typing import Any

from diffusers.configuration_utils import FrozenDict
from jaxtyping import Float
from torch import Tensor, nn

from pippin.types import Pixels


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Output of ``encode``, in the form of diffusers' deterministic encoders."""

    latent: Float[Tensor, "batch channels latent_height latent_width"]


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Output of ``decode``, in the form of diffusers."""

    sample: Pixels


class OwnNetwork(nn.Module):
    """Network with the configuration of a model of diffusers.

    Its name is the class in config.json.

    Args:
        settings: values of config.json, with the names of AutoencoderKL's.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.config: Any = FrozenDict(settings)

    def register_to_config(self, **settings: Any) -> None:
        """Replace settings."""
        self.config = FrozenDict(self.config | settings)

    def to_json_string(self) -> str:
        """Content of config.json."""
        return json.dumps({"_class_name": type(self).__name__, **self.config}, indent=2) + "\n"

# SPDX-License-Identifier: Apache-2.0
"""Network classes of diffusers, imported on first use, and the defaults of their arguments."""

import inspect
import json
from collections.abc import Mapping
from typing import Any

from pippin.encoders.classes import AutoencoderClass


def class_defaults(kind: AutoencoderClass) -> dict[str, Any]:
    """Arguments of a class and their defaults, as JSON values; None where there is no default."""
    parameters = inspect.signature(network_class(kind).__init__).parameters
    values = {
        name: None if parameter.default is inspect.Parameter.empty else parameter.default
        for name, parameter in parameters.items()
        if name != "self"
    }
    return plain_values(values)


def network_class(kind: AutoencoderClass) -> Any:
    """Class of diffusers, imported on first use.

    Raises:
        ValueError: the installed diffusers does not have it.
    """
    import diffusers

    network = getattr(diffusers, kind.name, None)
    if network is None:
        raise ValueError(
            f"the installed diffusers {diffusers.__version__} has no {kind.name}: update it with "
            "pip install --upgrade diffusers, or give --autoencoder.source another folder"
        )
    return network


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON gives them back: tuples become lists."""
    return json.loads(json.dumps(dict(values), default=str))

# SPDX-License-Identifier: Apache-2.0
"""All shipped studies by name."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from pippin.config import ConfigError
from pippin.recipes import openmoji
from pippin.studies.architectures import architectures_study, text_architectures_study
from pippin.studies.demo import demo_study
from pippin.study.study import Study


class Shipped(NamedTuple):
    """A study of the package, and what running it means."""

    build: Callable[[], Study]
    description: str


DEMO_MODELS = {
    "entangled": "pippin/openmoji-mmdit-entangled",
    "disentangled": "pippin/openmoji-mmdit-disentangled",
}

STUDIES: dict[str, Shipped] = {
    "demo": Shipped(
        lambda: demo_study(openmoji.mmdit_demo(), models=DEMO_MODELS),
        "entangled against disentangled mmDiT on OpenMoji, small (two cores, minutes)",
    ),
    "architectures": Shipped(
        architectures_study,
        "five denoisers under both conditionings on OpenMoji, small (two cores, an hour)",
    ),
    "text-architectures": Shipped(
        text_architectures_study,
        "five denoisers of text on OpenMoji, small (two cores, half an hour)",
    ),
}


def get_study(name: str, seeds: tuple[int, ...] = ()) -> Study:
    """The study of a name, on its own seeds or on the given ones.

    Raises:
        ConfigError: no such study; the message lists them.
    """
    if name not in STUDIES:
        raise ConfigError(f"no study {name!r}; there are: {', '.join(STUDIES)}")
    study = STUDIES[name].build()
    return replace(study, seeds=seeds) if seeds else study

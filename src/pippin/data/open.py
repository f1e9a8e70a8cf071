# SPDX-License-Identifier: Apache-2.0
"""From a data configuration to its source: the one place that maps kinds to classes."""

from pippin.data.config import DataConfig, OpenMojiConfig
from pippin.data.openmoji import OpenMojiSource
from pippin.data.source import PictureSource
from pippin.data.table import Split


def build_source(config: DataConfig, split: Split) -> PictureSource:
    """The pictures of one split.

    Raises:
        ValueError: an unknown split.
    """
    match config:
        case OpenMojiConfig():
            return OpenMojiSource(config, split)

# SPDX-License-Identifier: Apache-2.0
"""From a data configuration to its source: the one place that maps kinds to classes."""

from pippin.data.config import DataConfig, ImagesConfig, OpenMojiConfig, ShapesConfig
from pippin.data.images import ImagesSource
from pippin.data.openmoji import OpenMojiSource
from pippin.data.scan import Progress
from pippin.data.shapes.source import ShapesSource
from pippin.data.source import PictureSource
from pippin.data.table import Split


def build_source(
    config: DataConfig, split: Split, progress: Progress | None = None
) -> PictureSource:
    """The pictures of one split.

    Args:
        config: which pictures.
        split: train or held-out.
        progress: told of own pictures' files while they are looked into.

    Raises:
        ValueError: an unknown split, or own pictures that cannot be used.
        OSError: own pictures that cannot be read.
    """
    match config:
        case OpenMojiConfig():
            return OpenMojiSource(config, split)
        case ImagesConfig():
            return ImagesSource(config, split, progress)
        case ShapesConfig():
            return ShapesSource(config, split)

# SPDX-License-Identifier: Apache-2.0
"""Build of image sources from configurations: the only map from kinds to classes."""

from pippin.data.config import DataConfig, ImagesConfig, OpenMojiConfig, ShapesConfig
from pippin.data.source import ImageSource
from pippin.data.sources.images import ImageFolderSource
from pippin.data.sources.openmoji import OpenMojiSource
from pippin.data.sources.openmoji_table import Split
from pippin.data.sources.shapes.shapes_source import ShapesSource
from pippin.system.progress import ProgressCallback


def build_file_source(config: DataConfig, split: Split) -> ImageSource:
    """Source of the images of one split whose files were kept; see :func:`build_source`."""
    source = build_source(config, split)
    return source.with_files() if isinstance(source, ImageFolderSource) else source


def build_source(
    config: DataConfig, split: Split, progress: ProgressCallback | None = None
) -> ImageSource:
    """Build the source of one split.

    Args:
        config: configuration of the data set.
        split: train or held-out.
        progress: called after every scanned file of a custom data set.

    Raises:
        ValueError: an unknown split, or an invalid custom data set.
        OSError: a custom data set cannot be read.
    """
    match config:
        case OpenMojiConfig():
            return OpenMojiSource(config, split)
        case ImagesConfig():
            return ImageFolderSource(config, split, progress)
        case ShapesConfig():
            return ShapesSource(config, split)

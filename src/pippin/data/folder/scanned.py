# SPDX-License-Identifier: Apache-2.0
"""Usable image of a custom data set."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pippin.control import Size
from pippin.images.files import ConversionRule


@dataclass(frozen=True, kw_only=True)
class ScannedImage:
    """Usable image."""

    name: str
    path: Path
    label: int
    """Class id, an index into the scan's class names."""
    captions: Mapping[str, str]
    """Kind -> caption of the image."""
    size: Size
    """Size of the stored file, after EXIF rotation."""
    sha256: str
    """Hash of the file's bytes."""
    rules: tuple[ConversionRule, ...]
    has_file: bool = True
    """False if the image was encoded from a shard and its file was not kept."""

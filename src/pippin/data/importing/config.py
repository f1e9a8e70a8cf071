# SPDX-License-Identifier: Apache-2.0
"""Configuration of imports. Does not import torch, as ``config.py``."""

from dataclasses import dataclass, fields

from pippin.config import Config, ConfigError
from pippin.settings.bounds import at_least

NONE, FOLDER = "none", "folder"
"""Special column names: import no column; use the folder inside the archive."""


@dataclass(frozen=True, kw_only=True)
class ImportConfig(Config):
    """Source of an import and its columns."""

    FORMAT = "import"

    source: str
    """A .parquet or .tar file, a folder of such files, URLs of either (https, hf, s3, gs, ...),
    also with braces as in https://HOST/{00000..00099}.tar, or a hub data set name."""
    subset: str | None = None
    """Configuration name of a hub data set."""
    revision: str | None = None
    """Revision of a hub data set; None = the newest."""
    split: str = "train"
    """Split of a hub data set."""
    image: str | None = None
    """Column of images; for archives a suffix (png), a name before it (depth) or both (depth.png)
    of members; None = usual names first, masks and depth maps last."""
    caption: str | None = None
    """Column of captions, json.KEY inside a WebDataset's json; None = caption, text, txt, prompt
    and others, also inside json; none = no captions."""
    more_captions: tuple[str, ...] = ()
    """Further caption columns; each becomes caption_NAME."""
    label: str | None = None
    """Column of classes; None = label, labels, cls, class and others, also inside json, else
    folders of an archive; folder = those folders; none = no classes."""
    shards: int | None = None
    """Maximum number of shards, from the first; None = all."""

    def __post_init__(self) -> None:
        """Reject an empty source."""
        at_least(self, "import", 1, "shards")
        if not self.source.strip():
            raise ConfigError(
                "say what to import: pippin data import SOURCE, a .parquet or .tar file, a folder "
                "of such files, URLs of either, or a hub data set"
            )


@dataclass(frozen=True, kw_only=True)
class ShardsConfig(ImportConfig):
    """Shards that are encoded without unpacking, and their columns."""

    source: str = ""
    """Shards to encode into caches, as for `pippin data import`; empty = the images of data.path,
    or the shards that it was prepared from."""
    require_caption: bool = False
    """Skip images without a caption; otherwise their caption is the name of their class."""
    keep: int = 50_000
    """Maximum number of image files that are kept in data.path, for held-out images, references
    and drift."""

    def __post_init__(self) -> None:
        """Reject numbers below one: without kept files nothing could be held out."""
        at_least(self, "shards", 1, "shards", "keep")

    def given(self) -> "ShardsConfig | None":
        """These settings; None if there is no source.

        Raises:
            ConfigError: other settings without a source.
        """
        if self.source:
            return self
        names = [
            entry.name for entry in fields(self) if getattr(self, entry.name) != entry.default
        ]
        if names:
            options = ", ".join(f"--shards.{name.replace('_', '-')}" for name in names)
            raise ConfigError(
                f"{options} has no effect without --shards.source: give --shards.source SOURCE "
                f"too, or leave {options} out"
            )
        return None

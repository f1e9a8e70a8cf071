# SPDX-License-Identifier: Apache-2.0
"""Configuration of imports. No torch here, as in ``config.py``."""

from dataclasses import dataclass

from pippin.config import Config, ConfigError, at_least

NONE, FOLDER = "none", "folder"
"""In the place of a column of an import: none is taken; the folder inside an archive is."""


@dataclass(frozen=True, kw_only=True)
class ImportConfig(Config):
    """What of a source is taken."""

    FORMAT = "import"

    source: str
    """A .parquet or .tar file, a folder of such, URLs of either (https, hf, s3, gs, ...), many at
    once as in https://HOST/{00000..00099}.tar, or the hub name of a data set."""
    subset: str | None = None
    """Configuration of a data set of the hub that has several."""
    revision: str | None = None
    """Of a data set of the hub; None = the newest."""
    split: str = "train"
    """Of a data set of the hub."""
    image: str | None = None
    """Column of images, or of an archive's members a suffix (png), a name before it (depth) or
    both (depth.png); None = the usual names first, masks and depth maps last."""
    caption: str | None = None
    """Column of captions, json.KEY inside a WebDataset's json; None = caption, text, txt, prompt
    and others, also inside json; none = no captions."""
    more_captions: tuple[str, ...] = ()
    """Further columns of captions; each becomes caption_NAME."""
    label: str | None = None
    """Column of classes; None = label, labels, cls, class and others, also inside json, else the
    folders of an archive; folder = these; none = no classes."""
    shards: int | None = None
    """Only the first so many; None = all."""

    def __post_init__(self) -> None:
        """Refuse to import nothing."""
        at_least(self, "import", 1, "shards")
        if not self.source.strip():
            raise ConfigError(
                "say what to import: pippin data import SOURCE, a .parquet or .tar file, a folder "
                "of such, URLs of either, or a data set of the hub"
            )

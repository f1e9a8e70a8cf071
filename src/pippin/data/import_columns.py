# SPDX-License-Identifier: Apache-2.0
"""Which columns of an imported source hold images, captions and classes.

Those of tables are settled by the first shard and hold for all, so a shard that lacks one is
refused instead of giving other captions in silence. Samples of an archive each have their own
members: for these an order of preference is settled, and what was taken is counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pippin.config import Config, ConfigError, nearest
from pippin.data.import_config import FOLDER, NONE, ImportConfig
from pippin.data.import_names import (
    ANY,
    CAPTIONS,
    IMAGE_SUFFIXES,
    IMAGES,
    INNER,
    LABELS,
    UNNAMED_CAPTIONS,
    USUAL_QUALIFIERS,
    find_name,
    is_conditioning,
    is_image,
    listed,
    match_kind,
)
from pippin.data.import_rows import Look
from pippin.system.secrets import without_secrets

URLS = ("url", "image_url", "img_url")
"""Columns that tell that images are still to be fetched."""


@dataclass(frozen=True, kw_only=True)
class Columns(Config):
    """Which columns hold what, in every shard.

    A name is that of a column, of a kind of members of an archive, or of an entry inside of one
    (``json.caption``).
    """

    FORMAT = "import"

    image: str
    captions: dict[str, str]
    """Column of metadata.jsonl -> column of the source."""
    label: str | None
    names: tuple[str, ...] | None
    """Of the classes, where labels are their numbers."""
    image_or: tuple[str, ...] = ()
    """What stands in for ``image`` where a row lacks it, in order."""
    caption_or: tuple[str, ...] = ()
    """The same for the main caption."""
    label_or: tuple[str, ...] = ()
    """The same for the class."""

    @property
    def images(self) -> tuple[str, ...]:
        """Columns of images, in order of preference."""
        return (self.image, *self.image_or)

    @property
    def texts(self) -> dict[str, tuple[str, ...]]:
        """Column of metadata.jsonl -> columns of captions, in order of preference."""
        main = self.captions.get("text")
        found = {"text": ((main,) if main else ()) + self.caption_or}
        found |= {name: (column,) for name, column in self.captions.items() if name != "text"}
        return {name: columns for name, columns in found.items() if columns}

    @property
    def labels(self) -> tuple[str, ...]:
        """Columns of classes, in order of preference."""
        return ((self.label,) if self.label else ()) + self.label_or

    @property
    def needed(self) -> tuple[str, ...]:
        """Those that every shard must have: nothing stands in for them."""
        settled = [columns for columns in self.all_roles if len(columns) == 1]
        return tuple(dict.fromkeys(columns[0] for columns in settled))

    @property
    def candidates(self) -> tuple[str, ...]:
        """All columns that may be taken."""
        return tuple(dict.fromkeys(name for columns in self.all_roles for name in columns))

    @property
    def all_roles(self) -> tuple[tuple[str, ...], ...]:
        """Columns by preference, of images, of each kind of captions and of classes."""
        return (self.images, *self.texts.values(), self.labels)


def find_columns(config: ImportConfig, look: Look) -> Columns:
    """Named ones, or those that are looked for.

    Args:
        config: names columns, or leaves them to be found.
        look: at the first shard that has rows.

    Raises:
        ConfigError: a named column is not there, or none holds images.
    """
    images = _images(config, look)
    if not images:
        raise ConfigError(_no_images(config, look))
    captions: dict[str, str] = {}
    main = _settled(config, look, "caption", config.caption, CAPTIONS)
    if main is not None:
        captions["text"] = main
    for column in config.more_captions:
        found = _named(config, look, "more-captions", column)
        captions[f"caption_{column.removeprefix(INNER)}"] = found
    is_folder = config.label == FOLDER and find_name(FOLDER, look.names) is None
    given = NONE if is_folder else config.label
    label = _settled(config, look, "label", given, LABELS)
    return Columns(
        image=images[0],
        captions=captions,
        label=label,
        names=look.classes.get(label) if label else None,
        image_or=images[1:],
        caption_or=() if main or config.caption else _stand_ins(look, CAPTIONS, UNNAMED_CAPTIONS),
        label_or=() if label or given else _stand_ins(look, LABELS),
    )


def _stand_ins(look: Look, usual: Sequence[str], more: Sequence[str] = ()) -> tuple[str, ...]:
    """Usual names in their order, each before the entry of a json of that name."""
    both = tuple(name for one in usual for name in (one, INNER + one))
    return both + (tuple(more) if look.samples is not None else ())


def _settled(
    config: ImportConfig, look: Look, option: str, given: str | None, usual: Sequence[str]
) -> str | None:
    """The column of all shards; None = there is none, or each row of an archive has its own."""
    if given is not None:
        none = given == NONE and find_name(NONE, look.names) is None
        return None if none else _named(config, look, option, given)
    if look.samples is not None:
        return None
    unfit = look.dictionaries | (look.lists if option == "label" else frozenset())
    names = [name for name in look.names if name not in unfit]
    found = [find_name(name, names) for name in _stand_ins(look, usual)]
    classes = list(look.classes) if option == "label" and len(look.classes) == 1 else []
    return next((name for name in (*found, *classes) if name), None)


def _named(config: ImportConfig, look: Look, option: str, given: str) -> str:
    """A column that the user named, as the source writes it."""
    found = find_name(given, look.names)
    if found is None and look.samples is not None:
        wanted = (given.lower(), f"{given.lower()}.txt")
        has_it = any(match_kind(one, kinds) for kinds in look.samples for one in wanted)
        found = given if has_it or not look.is_whole else None
    if found is None and look.samples is None:
        column = find_name(given.partition(".")[0], look.names)
        # Text may hold a dictionary; the end of the shard tells.
        found = given if "." in given and column and column not in look.dictionaries else None
    if found is None:
        raise ConfigError(
            f"--{option} {given}: {without_secrets(config.source)} has no such column"
            f"{nearest(given, look.names)}; it has: {listed(look.names)}"
        )
    return found


def _images(config: ImportConfig, look: Look) -> tuple[str, ...]:
    """Columns of images, the preferred one first; none where there is no such column."""
    if look.samples is not None:
        return _images_of_archive(config, look, look.samples)
    if config.image is not None:
        return (_named(config, look, "image", config.image),)
    usual = [find_name(name, look.images) for name in IMAGES]
    plain = [name for name in look.images if not is_conditioning(name)]
    undeclared = [find_name(name, look.names) for name in IMAGES]
    names = (*usual, *plain, *undeclared, *look.images)
    return tuple(name for name in names if name is not None)[:1]


def _images_of_archive(
    config: ImportConfig, look: Look, samples: tuple[tuple[str, ...], ...]
) -> tuple[str, ...]:
    if config.image is not None:
        qualified = f"{config.image.lower()}.{ANY}"
        if any(match_kind(qualified, kinds) for kinds in samples):
            return (qualified,)
        return (_named(config, look, "image", config.image),)
    of_samples = [[kind for kind in kinds if is_image(kind)] for kinds in samples]
    images = list(dict.fromkeys(kind for kinds in of_samples for kind in kinds))
    if not images:
        return ()
    usual = tuple(f"{name}.{ANY}" for name in USUAL_QUALIFIERS)
    if all(len({_qualifier(kind) for kind in kinds}) < 2 for kinds in of_samples):
        has_plain = not all(map(is_conditioning, images))
        last = (ANY,) if has_plain else (f"{_qualifier(images[0])}.{ANY}",)
        return (*IMAGE_SUFFIXES, *usual, *last)
    if any("." not in kind for kind in images):
        return IMAGE_SUFFIXES
    names = [*usual, *(f"{_qualifier(k)}.{ANY}" for k in images if not is_conditioning(k))]
    chosen = (name for name in names if match_kind(name, images))
    return (next(chosen, f"{_qualifier(images[0])}.{ANY}"),)


def _qualifier(kind: str) -> str:
    return kind.rpartition(".")[0]


def _no_images(config: ImportConfig, look: Look) -> str:
    source = without_secrets(config.source)
    if config.image is None and any(find_name(name, look.names) for name in URLS):
        return (
            f"{source} holds URLs and no images: fetch them first, such as with img2dataset; it "
            f"has: {listed(look.names)}"
        )
    return (
        f"{source} has no column of images; say which one it is with --image; it has: "
        f"{listed(look.names) or 'no rows at all'}"
    )

# SPDX-License-Identifier: Apache-2.0
"""Columns of an imported source that hold images, captions and classes.

The first shard of a table determines the columns of all shards. A shard without one of them is
rejected, so the captions never change silently. Each sample of an archive has its own members, so
archives have an order of preference, and the imported members are counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pippin.config import Config, ConfigError, suggest_names
from pippin.data.importing.config import FOLDER, NONE, ImportConfig
from pippin.data.importing.rows import (
    ANY,
    CAPTIONS,
    IMAGE_SUFFIXES,
    IMAGES,
    INNER,
    LABELS,
    UNNAMED_CAPTIONS,
    USUAL_QUALIFIERS,
    ShardSchema,
    find_name,
    is_conditioning,
    is_image,
    join_names,
    match_kind,
)
from pippin.system.redaction import strip_url_secrets

URLS = ("url", "image_url", "img_url")
"""Columns that show that images must still be downloaded."""


@dataclass(frozen=True, kw_only=True)
class Columns(Config):
    """Columns of every shard, by role.

    A name is a column, a kind of archive member, or an entry inside either (``json.caption``).
    """

    FORMAT = "import"

    image: str
    captions: dict[str, str]
    """Column of metadata.jsonl -> column of the source."""
    label: str | None
    names: tuple[str, ...] | None
    """Class names, if labels are class ids."""
    image_or: tuple[str, ...] = ()
    """Fallbacks for rows without ``image``, in order."""
    caption_or: tuple[str, ...] = ()
    """Fallbacks for the main caption."""
    label_or: tuple[str, ...] = ()
    """Fallbacks for the class."""

    @property
    def images(self) -> tuple[str, ...]:
        """Columns of images, in order of preference."""
        return (self.image, *self.image_or)

    @property
    def texts(self) -> dict[str, tuple[str, ...]]:
        """Column of metadata.jsonl -> columns of captions, in order of preference."""
        main = self.captions.get("text")
        texts = {"text": ((main,) if main else ()) + self.caption_or}
        texts |= {name: (column,) for name, column in self.captions.items() if name != "text"}
        return {name: columns for name, columns in texts.items() if columns}

    @property
    def labels(self) -> tuple[str, ...]:
        """Columns of classes, in order of preference."""
        return ((self.label,) if self.label else ()) + self.label_or

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns without fallbacks, which every shard must have."""
        required = [columns for columns in self.all_roles if len(columns) == 1]
        return tuple(dict.fromkeys(columns[0] for columns in required))

    @property
    def candidates(self) -> tuple[str, ...]:
        """All columns that may be imported."""
        return tuple(dict.fromkeys(name for columns in self.all_roles for name in columns))

    @property
    def all_roles(self) -> tuple[tuple[str, ...], ...]:
        """Columns by preference, of images, of each kind of captions and of classes."""
        return (self.images, *self.texts.values(), self.labels)


def find_columns(config: ImportConfig, schema: ShardSchema) -> Columns:
    """Columns of an import, as configured or by their usual names.

    Args:
        config: names of columns; None = search for usual names.
        schema: schema of the first shard with rows.

    Raises:
        ConfigError: a configured column does not exist, or no column holds images.
    """
    images = _images(config, schema)
    if not images:
        raise ConfigError(_no_images(config, schema))
    captions: dict[str, str] = {}
    main = _shared_column(config, schema, "caption", config.caption, CAPTIONS)
    if main is not None:
        captions["text"] = main
    for column in config.more_captions:
        name = _requested_column(config, schema, "more-captions", column)
        captions[f"caption_{column.removeprefix(INNER)}"] = name
    is_folder = config.label == FOLDER and find_name(FOLDER, schema.names) is None
    requested = NONE if is_folder else config.label
    label = _shared_column(config, schema, "label", requested, LABELS)
    return Columns(
        image=images[0],
        captions=captions,
        label=label,
        names=schema.classes.get(label) if label else None,
        image_or=images[1:],
        caption_or=()
        if main or config.caption
        else _fallbacks(schema, CAPTIONS, UNNAMED_CAPTIONS),
        label_or=() if label or requested else _fallbacks(schema, LABELS),
    )


def _fallbacks(
    schema: ShardSchema, candidates: Sequence[str], extra: Sequence[str] = ()
) -> tuple[str, ...]:
    """Candidate names in order, each followed by the JSON entry of that name."""
    names = tuple(variant for name in candidates for variant in (name, INNER + name))
    return names + (tuple(extra) if schema.samples is not None else ())


def _shared_column(
    config: ImportConfig,
    schema: ShardSchema,
    option: str,
    requested: str | None,
    candidates: Sequence[str],
) -> str | None:
    """Column of all shards; None = no column, or archive rows with individual members."""
    if requested is not None:
        is_none = requested == NONE and find_name(NONE, schema.names) is None
        return None if is_none else _requested_column(config, schema, option, requested)
    if schema.samples is not None:
        return None
    unfit = schema.dictionaries | (schema.lists if option == "label" else frozenset())
    names = [name for name in schema.names if name not in unfit]
    matches = [find_name(name, names) for name in _fallbacks(schema, candidates)]
    classes = list(schema.classes) if option == "label" and len(schema.classes) == 1 else []
    return next((name for name in (*matches, *classes) if name), None)


def _requested_column(
    config: ImportConfig, schema: ShardSchema, option: str, requested: str
) -> str:
    """Column that the user named, as spelled in the source."""
    match = find_name(requested, schema.names)
    if match is None and schema.samples is not None:
        kinds_wanted = (requested.lower(), f"{requested.lower()}.txt")
        has_it = any(match_kind(kind, kinds) for kinds in schema.samples for kind in kinds_wanted)
        match = requested if has_it or not schema.is_complete else None
    if match is None and schema.samples is None:
        column = find_name(requested.partition(".")[0], schema.names)
        # Text may hold a dictionary; this is known at the end of the shard.
        match = (
            requested
            if "." in requested and column and column not in schema.dictionaries
            else None
        )
    if match is None:
        raise ConfigError(
            f"--{option} {requested}: {strip_url_secrets(config.source)} has no such column"
            f"{suggest_names(requested, schema.names)}; it has: {join_names(schema.names)}"
        )
    return match


def _images(config: ImportConfig, schema: ShardSchema) -> tuple[str, ...]:
    """Columns of images, the preferred one first; empty if there is none."""
    if schema.samples is not None:
        return _images_of_archive(config, schema, schema.samples)
    if config.image is not None:
        return (_requested_column(config, schema, "image", config.image),)
    candidates = [find_name(name, schema.images) for name in IMAGES]
    plain = [name for name in schema.images if not is_conditioning(name)]
    undeclared = [find_name(name, schema.names) for name in IMAGES]
    names = (*candidates, *plain, *undeclared, *schema.images)
    return tuple(name for name in names if name is not None)[:1]


def _images_of_archive(
    config: ImportConfig, schema: ShardSchema, samples: tuple[tuple[str, ...], ...]
) -> tuple[str, ...]:
    if config.image is not None:
        qualified = f"{config.image.lower()}.{ANY}"
        if any(match_kind(qualified, kinds) for kinds in samples):
            return (qualified,)
        return (_requested_column(config, schema, "image", config.image),)
    of_samples = [[kind for kind in kinds if is_image(kind)] for kinds in samples]
    images = list(dict.fromkeys(kind for kinds in of_samples for kind in kinds))
    if not images:
        return ()
    candidates = tuple(f"{name}.{ANY}" for name in USUAL_QUALIFIERS)
    if all(len({_qualifier(kind) for kind in kinds}) < 2 for kinds in of_samples):
        has_plain = not all(map(is_conditioning, images))
        last = (ANY,) if has_plain else (f"{_qualifier(images[0])}.{ANY}",)
        return (*IMAGE_SUFFIXES, *candidates, *last)
    if any("." not in kind for kind in images):
        return IMAGE_SUFFIXES
    names = [*candidates, *(f"{_qualifier(k)}.{ANY}" for k in images if not is_conditioning(k))]
    chosen = (name for name in names if match_kind(name, images))
    return (next(chosen, f"{_qualifier(images[0])}.{ANY}"),)


def _qualifier(kind: str) -> str:
    return kind.rpartition(".")[0]


def _no_images(config: ImportConfig, schema: ShardSchema) -> str:
    source = strip_url_secrets(config.source)
    if config.image is None and any(find_name(name, schema.names) for name in URLS):
        return (
            f"{source} holds URLs and no images: fetch them first, for example with img2dataset; "
            f"it has: {join_names(schema.names)}"
        )
    return (
        f"{source} has no column of images; name it with --image; it has: "
        f"{join_names(schema.names) or 'no rows at all'}"
    )

# SPDX-License-Identifier: Apache-2.0
"""Models of the hub as ``hf://USER/NAME@REVISION``: exported folders in the hub's cache.

A revision is a branch, a tag or a commit; the default is the branch ``main``. It is resolved to a
commit once, and lineage and messages name the commit. Settings are checked first; then only the
files that an export has are downloaded (:data:`EXPORT_FILES`). None of them is executed.
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pippin.encoders.config import HUB_PREFIX
from pippin.encoders.hub import FILES
from pippin.encoders.hub_files import (
    Alternatives,
    HubModel,
    cache_folder,
    download_model,
    hub_errors,
    list_cached,
    list_model,
)
from pippin.encoders.snapshots import DamagedSnapshotError, SnapshotError, missing_offline
from pippin.runs.exports import (
    AUTOENCODER_FOLDER,
    LAST_FILE,
    TEXT_FOLDER,
    TOKENIZER_FOLDER,
    WEIGHTS_FILE,
)
from pippin.runs.folder import INPUTS_FILE
from pippin.system.downloads import check_space, size_text
from pippin.system.files import read_regular
from pippin.system.formats import parse_json
from pippin.system.offline import is_offline
from pippin.system.text import printable

SETTINGS_FILES = (LAST_FILE, INPUTS_FILE)
"""Files that say what a model is, without its weights."""
EXPORT_FILES: Alternatives = (
    (
        *SETTINGS_FILES,
        WEIGHTS_FILE,
        *(
            f"{folder}/{name}"
            for folder in (AUTOENCODER_FOLDER, f"{TEXT_FOLDER}*")
            for name in FILES
        ),
        *(f"{TOKENIZER_FOLDER}*/{name}" for name in FILES if name != "*.safetensors"),
    ),
)
"""Patterns of the files of an exported folder; whatever else a model holds stays on the hub."""
MAX_SETTINGS_BYTES = 64 * 2**20
"""Maximum size of a file of settings: a million names of classes."""
RECIPE_KEYS = {"data", "denoiser", "train"}
"""Keys that every recipe has, and no configuration of another library together."""
UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR}
"""Errors of a cache that cannot be written."""
CODE_KEY = "auto_map"
"""Key by which a model of transformers names Python files to run."""
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REVISION = r"[A-Za-z0-9_](?:[A-Za-z0-9._/+-]*[A-Za-z0-9_+-])?"
_SOURCE = re.compile(rf"{HUB_PREFIX}({_PART}/{_PART})(?:@({_REVISION}))?")


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """Name of a model on the hub."""

    name: str
    """USER/NAME."""
    revision: str | None = None
    """Branch, tag or commit; None = the default branch."""

    def __str__(self) -> str:
        return HUB_PREFIX + self.name + (f"@{self.revision}" if self.revision else "")


def is_hub_source(source: str) -> bool:
    """Whether a source names a model of the hub."""
    return source.startswith(HUB_PREFIX)


def check_hub_name(name: str) -> None:
    """Refuse a name that the hub does not take.

    Raises:
        ValueError: not USER/NAME of letters, digits, ``-``, ``_`` and ``.``.
    """
    if not re.fullmatch(rf"{_PART}/{_PART}", name) or "--" in name or ".." in name:
        raise ValueError(
            f"{name!r} is no name on the hub; allowed: USER/NAME, each of letters, digits, - _ "
            "and ., without -- or .., starting and ending with a letter or digit; type, for "
            "example, ada/emoji-mmdit"
        )


def check_revision(revision: str) -> None:
    """Refuse a branch, tag or commit that the hub does not take.

    Raises:
        ValueError: not letters, digits, ``-``, ``_``, ``.``, ``+`` and ``/``, or with ``..``.
    """
    if not re.fullmatch(_REVISION, revision) or ".." in revision:
        raise ValueError(
            f"{revision!r} is no revision of the hub; allowed: letters, digits, - _ . + and /, "
            "without .., starting with a letter, digit or _; type, for example, main or v2"
        )


def parse_hub_source(source: str) -> HubSource:
    """Parse ``hf://USER/NAME`` or ``hf://USER/NAME@REVISION``.

    Raises:
        ValueError: another form.
    """
    match = _SOURCE.fullmatch(source)
    if match is None or "--" in match[1] or ".." in source:
        raise ValueError(
            f"{source!r} is no model of the hub; allowed: {HUB_PREFIX}USER/NAME or "
            f"{HUB_PREFIX}USER/NAME@REVISION, where REVISION is a branch, a tag or a commit; "
            f"type, for example, {HUB_PREFIX}ada/emoji-mmdit@main"
        )
    return HubSource(name=match[1], revision=match[2])


def pin_source(source: str) -> str:
    """A hub source with its revision resolved to a commit; other sources are unchanged.

    Raises:
        ValueError: as :func:`settings_folder`.
    """
    return pinned_name(source, settings_folder(source)) if is_hub_source(source) else source


def pinned_name(source: str, folder: Path) -> str:
    """``hf://USER/NAME@COMMIT`` of a source whose snapshot is in a folder."""
    return str(HubSource(name=parse_hub_source(source).name, revision=folder.name))


def settings_folder(source: str) -> Path:
    """Folder of a hub model's settings in the hub's cache, named after the commit.

    Raises:
        ValueError: no such model or revision, no access, no network, not in the cache in offline
            mode, or no model of pippin; the message says what to type.
    """
    hub = parse_hub_source(source)
    with _cache_errors(source):
        folder = _download_settings(source, hub)
    _check_settings(source, folder / "config.json")
    return folder


def _download_settings(source: str, hub: HubSource) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        with hub_errors(hub.name, hub.revision):
            if not is_offline():  # a refused download would look like a missing network
                info = HfApi().model_info(hub.name, revision=hub.revision, files_metadata=True)
                _check_sizes(source, info)
            return Path(
                snapshot_download(
                    hub.name,
                    revision=hub.revision,
                    allow_patterns=list(SETTINGS_FILES),
                    local_files_only=is_offline(),
                    cache_dir=cache_folder(),
                    max_workers=1,
                )
            )
    except SnapshotError as error:
        if is_offline() and isinstance(error.__cause__, LocalEntryNotFoundError):
            raise missing_offline(hub.name, hub.revision) from error
        raise


def _check_sizes(source: str, info: Any) -> None:
    """Refuse settings that are absent or too large, before they are downloaded."""
    sizes = {entry.rfilename: int(entry.size or 0) for entry in info.siblings or ()}
    for name in SETTINGS_FILES:
        if sizes.get(name, 0) > MAX_SETTINGS_BYTES:
            size = size_text(sizes[name])
            raise not_of_pippin(source, f"its {name} has {size}, too much for settings")
    if SETTINGS_FILES[0] not in sizes:
        raise not_of_pippin(source, f"it has no {SETTINGS_FILES[0]}")


def _check_settings(source: str, path: Path) -> None:
    """Refuse the settings of another library, before weights are downloaded."""
    if not path.is_file():
        raise not_of_pippin(source, f"it has no {path.name}")
    try:
        values = parse_json(read_regular(path))
    except ValueError as error:
        raise not_of_pippin(source, f"its {path.name} is not JSON ({error})") from error
    if not isinstance(values, dict) or RECIPE_KEYS - set(values):
        raise not_of_pippin(source, f"its {path.name} is no recipe")


@contextmanager
def _cache_errors(source: str) -> Iterator[None]:
    """Convert errors of the hub's client and of the cache's folder to messages with the source.

    Raises:
        ValueError: in their place; a full disk keeps its OSError.
    """
    try:
        yield
    except SnapshotError as error:
        raise ValueError(f"{source} {error}{_cached_advice(source, error)}") from error
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise ValueError(
            f"{source} cannot be downloaded: the hub's cache {cache_folder()} is not writable "
            f"({error.strerror}); set HF_HUB_CACHE to a folder that is"
        ) from error


def _cached_advice(source: str, error: SnapshotError) -> str:
    """Advice where there is no connection and the cache holds the settings."""
    from huggingface_hub import try_to_load_from_cache

    hub = parse_hub_source(source)
    cached = try_to_load_from_cache(
        hub.name, SETTINGS_FILES[0], cache_dir=cache_folder(), revision=hub.revision
    )
    is_unreachable = "no connection" in str(error)
    has_copy = isinstance(cached, str)  # there is also an object for a known absence
    return "; the cache has a copy: type --offline" if is_unreachable and has_copy else ""


def model_folder(source: str) -> Path:
    """Folder of a hub model in the hub's cache, with all files that pippin reads.

    Missing files are downloaded and verified by the sha256 that the hub states.

    Raises:
        ValueError: as :func:`settings_folder`; not enough disk space, a file that stays damaged,
            or a model that names code to run.
    """
    hub, folder = parse_hub_source(source), settings_folder(source)
    with _cache_errors(source):
        files = _list_files(hub, folder.name)
        if WEIGHTS_FILE not in {file.name for file in files.files}:
            raise not_of_pippin(source, f"it has no {WEIGHTS_FILE}")
        if files.missing_bytes:
            advice = "free some, or set HF_HUB_CACHE to a folder on another disk"
            check_space(cache_folder(), files.missing_bytes, advice)
            download_model(files, cache_folder())
    _refuse_code(source, folder)
    return folder


def _list_files(hub: HubSource, commit: str) -> HubModel:
    if not is_offline():
        return list_model(hub.name, commit, EXPORT_FILES, cache_folder())
    try:
        files = list_cached(hub.name, commit, EXPORT_FILES, cache_folder())
    except DamagedSnapshotError:
        raise
    except SnapshotError as error:
        raise missing_offline(hub.name, hub.revision) from error
    if WEIGHTS_FILE not in {file.name for file in files.files}:
        raise missing_offline(hub.name, hub.revision)
    return files


def not_of_pippin(source: str, reason: str) -> ValueError:
    """The error of a hub model in another format."""
    return ValueError(
        f"{source} was not pushed by pippin: {printable(reason)}. Allowed: what `pippin push RUN "
        "USER/NAME` makes; for weights of other libraries download them and type `pippin convert`"
    )


def _refuse_code(source: str, folder: Path) -> None:
    """Refuse a model whose encoders name Python files: nothing of a download is executed."""
    for name in ("config.json", "tokenizer_config.json"):
        for path in folder.glob(f"*/{name}"):
            place = f"{source}: {path.relative_to(folder)}"
            try:
                values = parse_json(read_regular(path))
            except ValueError as error:
                raise ValueError(
                    f"{place} is not JSON ({error}): ask its author to push the model again"
                ) from error
            if isinstance(values, dict) and CODE_KEY in values:
                raise ValueError(
                    f"{place} names code to run ({CODE_KEY}); pippin "
                    "runs no code of a model: ask its author for one of transformers' own classes"
                )

# SPDX-License-Identifier: Apache-2.0
"""Models of the hub as ``hf://USER/NAME@REVISION``: exported folders in the hub's cache.

A revision is a branch, a tag or a commit; the default is the branch ``main``. It is resolved to a
commit once, and lineage and messages name the commit. Only settings, weights and tokenizer tables
are downloaded (:data:`pippin.encoders.hub.FILES`). None of them is executed.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from pippin.encoders.config import HUB_PREFIX
from pippin.encoders.hub import FILES
from pippin.encoders.hub_files import (
    HubModel,
    cache_folder,
    download_model,
    hub_errors,
    list_cached,
    list_model,
)
from pippin.encoders.snapshots import SnapshotError, missing_offline
from pippin.system.downloads import check_space
from pippin.system.files import read_regular
from pippin.system.formats import parse_json
from pippin.system.offline import is_offline

SETTINGS_FILES = ("config.json", "inputs.json")
"""Files that say what a model is, without its weights."""
WEIGHTS_FILE = "model.safetensors"
CODE_KEY = "auto_map"
"""Key by which a model of transformers names Python files to run."""
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_SOURCE = re.compile(rf"{HUB_PREFIX}({_PART}/{_PART})(?:@([^@\s]+))?")


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


def parse_hub_source(source: str) -> HubSource:
    """Parse ``hf://USER/NAME`` or ``hf://USER/NAME@REVISION``.

    Raises:
        ValueError: another form.
    """
    match = _SOURCE.fullmatch(source)
    if match is None or "--" in match[1] or ".." in match[1]:
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
    try:
        folder = _download_settings(hub)
    except SnapshotError as error:
        raise ValueError(f"{source} {error}") from error
    if not (folder / "config.json").is_file():
        raise not_of_pippin(source, "it has no config.json")
    return folder


def _download_settings(hub: HubSource) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        with hub_errors(hub.name, hub.revision):
            if not is_offline():  # a refused download would look like a missing network
                HfApi().model_info(hub.name, revision=hub.revision)
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


def model_folder(source: str) -> Path:
    """Folder of a hub model in the hub's cache, with all files that pippin reads.

    Missing files are downloaded and verified by the sha256 that the hub states.

    Raises:
        ValueError: as :func:`settings_folder`; not enough disk space, a file that stays damaged,
            or a model that names code to run.
    """
    hub, folder = parse_hub_source(source), settings_folder(source)
    try:
        files = _list_files(hub, folder.name)
        if files.missing_bytes:
            check_space(cache_folder(), files.missing_bytes)
            download_model(files, cache_folder())
    except SnapshotError as error:
        raise ValueError(f"{source} {error}") from error
    if not (folder / WEIGHTS_FILE).is_file():
        raise not_of_pippin(source, f"it has no {WEIGHTS_FILE}")
    _refuse_code(source, folder)
    return folder


def _list_files(hub: HubSource, commit: str) -> HubModel:
    if not is_offline():
        return list_model(hub.name, commit, (FILES,), cache_folder())
    try:
        return list_cached(hub.name, commit, (FILES,), cache_folder())
    except SnapshotError as error:
        raise missing_offline(hub.name, hub.revision) from error


def not_of_pippin(source: str, reason: str) -> ValueError:
    """The error of a hub model in another format."""
    return ValueError(
        f"{source} was not pushed by pippin: {reason}. Allowed: what `pippin push RUN USER/NAME` "
        "makes; for weights of other libraries download them and type `pippin convert`"
    )


def _refuse_code(source: str, folder: Path) -> None:
    """Refuse a model whose encoders name Python files: nothing of a download is executed."""
    for name in ("config.json", "tokenizer_config.json"):
        for path in folder.glob(f"*/{name}"):
            values = parse_json(read_regular(path))
            if isinstance(values, dict) and CODE_KEY in values:
                raise ValueError(
                    f"{source}: {path.relative_to(folder)} names code to run ({CODE_KEY}); pippin "
                    "runs no code of a model: ask its author for one of transformers' own classes"
                )

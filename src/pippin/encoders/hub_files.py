# SPDX-License-Identifier: Apache-2.0
"""Files of hub models: listed with sizes, brought into the hub's cache, and verified.

The cache has the layout of huggingface_hub, so that a machine without network finds a model under
its hub name (:mod:`pippin.encoders.snapshots`).
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pippin.encoders.snapshots import DamagedSnapshotError, SnapshotError
from pippin.system.files import file_digest
from pippin.system.redaction import redact
from pippin.system.weight_files import shards
from pippin.system.weight_folders import INDEX

Alternatives = tuple[tuple[str, ...], ...]
"""Patterns of the files that pippin reads of a model: the first tuple that matches weights."""
WEIGHTS = ("*.safetensors", "*.bin")
"""Patterns of weights."""


def choose_files(names: Sequence[str], alternatives: Alternatives) -> list[str]:
    """Names that the first alternative with weights matches; empty if none has weights."""
    for patterns in alternatives:
        chosen = [name for name in names if _matches(name, patterns)]
        if any(_matches(name, WEIGHTS) for name in chosen):
            return chosen
    return []


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """File of a hub model."""

    name: str
    num_bytes: int
    sha256: str | None = None
    """Digest that the hub states; it states none for small text files."""
    path: Path | None = None
    """Its place in the cache; None = not there."""

    @property
    def is_complete(self) -> bool:
        """Whether the cache holds the file with its full size."""
        return self.path is not None and self.path.stat().st_size == self.num_bytes


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """Files of a hub model that pippin reads."""

    name: str
    revision: str | None
    commit: str
    files: tuple[HubFile, ...]

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(file.num_bytes for file in self.files)

    @property
    def missing_bytes(self) -> int:
        """Size of the files that the cache lacks or holds in part."""
        return sum(file.num_bytes for file in self.files if not file.is_complete)


def cache_folder(folder: Path | None = None) -> Path:
    """The given folder, or the hub's cache of the environment (``HF_HUB_CACHE``)."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) if folder is None else folder


def list_model(
    name: str, revision: str | None, alternatives: Alternatives, cache: Path
) -> HubModel:
    """Ask the hub for the files of a model, and look them up in a cache.

    Raises:
        SnapshotError: no such model or revision, no access, no network, or none of the files
            that pippin reads.
    """
    from huggingface_hub import HfApi

    with hub_errors(name, revision):
        info = HfApi().model_info(name, revision=revision, files_metadata=True)
    stated = {entry.rfilename: entry for entry in info.siblings or ()}
    chosen = choose_files(sorted(stated), alternatives)
    if not chosen:
        raise SnapshotError(
            f"has no weights that pippin reads ({len(stated)} files on the hub); give another "
            "model, or a folder with safetensors weights"
        )
    commit = str(info.sha)
    files = (_listed(name, commit, stated[file], cache) for file in chosen)
    return HubModel(name=name, revision=revision, commit=commit, files=tuple(files))


def _listed(name: str, commit: str, stated: Any, cache: Path) -> HubFile:
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, stated.rfilename, cache_dir=cache, revision=commit)
    return HubFile(
        name=stated.rfilename,
        num_bytes=int(stated.size or 0),
        sha256=None if stated.lfs is None else stated.lfs.sha256,
        path=Path(cached) if isinstance(cached, str) else None,
    )


def list_cached(
    name: str, revision: str | None, alternatives: Alternatives, cache: Path
) -> HubModel:
    """Files of a model that a cache holds, without asking the hub; sizes are those of the cache.

    Raises:
        SnapshotError: the cache holds no such model, or a part of it.
        DamagedSnapshotError: an index of weights is damaged.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=list(alternatives[0]),
                cache_dir=cache,
                local_files_only=True,
            )
        )
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise SnapshotError(f"is not complete in {cache}") from error
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    files = tuple(
        HubFile(name=file, num_bytes=(folder / file).stat().st_size, path=folder / file)
        for file in choose_files(names, alternatives)
    )
    try:
        missing = _missing_shards(folder, files, names)
    except ValueError as error:
        raise DamagedSnapshotError(
            f"is damaged in {cache}: {error}; delete that file, and download the model again with "
            "network access"
        ) from error
    if not files or "config.json" not in names or missing:
        raise SnapshotError(f"is not complete in {cache}")
    return HubModel(name=name, revision=revision, commit=folder.name, files=files)


def _missing_shards(folder: Path, files: Sequence[HubFile], names: Sequence[str]) -> set[str]:
    """Files that an index of weights names and a folder lacks, as after a stopped download.

    Args:
        folder: folder of the model.
        files: the files that pippin reads.
        names: all files of the folder.
    """
    needed: set[str] = set()
    for file in files:
        match = INDEX.search(file.name)
        whole = file.name[: match.start()] + f".{match[1]}" if match else ""
        if match and whole not in names:
            needed |= {str(path.relative_to(folder)) for path in shards(folder / file.name)}
    return needed - set(names)


def download_model(model: HubModel, cache: Path) -> int:
    """Bring the missing files into a cache, and verify all against the hub's digests.

    Files that are complete stay. A file with another size or content is downloaded once more.

    Returns:
        Number of files that were verified by a digest.

    Raises:
        SnapshotError: no access, no network, or a file that stays damaged.
        OSError: disk full or not writable; finished files stay.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    with hub_errors(model.name, model.revision):
        folder = Path(
            snapshot_download(
                model.name,
                revision=model.revision,
                allow_patterns=[file.name for file in model.files],
                cache_dir=cache,
                max_workers=1,  # threads close each other's connection after a failed request
            )
        )
        for file in model.files:
            if _is_damaged(folder / file.name, file):
                hf_hub_download(
                    model.name,
                    file.name,
                    revision=model.commit,
                    cache_dir=cache,
                    force_download=True,
                )
    for file in model.files:
        if _is_damaged(folder / file.name, file):
            raise SnapshotError(
                f"was downloaded twice, and {file.name} does not have the sha256 or the size that "
                f"the hub states: remove {folder / file.name}, and type the command again"
            )
    return sum(file.sha256 is not None for file in model.files)


def _is_damaged(path: Path, file: HubFile) -> bool:
    """Whether a file differs from what the hub states; missing counts."""
    if not path.is_file() or path.stat().st_size != file.num_bytes:
        return True
    return file.sha256 is not None and file_digest(path) != file.sha256


@contextmanager
def hub_errors(name: str, revision: str | None) -> Iterator[None]:
    """Convert errors of the hub's client to messages that say what to do.

    Raises:
        SnapshotError: in their place; a full disk keeps its OSError.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise SnapshotError(
            f"needs consent to its terms: accept them at {_page(name)}, then log in with "
            "`hf auth login`, or set HF_TOKEN to a token of that account"
        ) from error
    except RepositoryNotFoundError as error:
        raise SnapshotError(
            "is not on the hub, or is private: check the name; for a private model log in with "
            "`hf auth login`, or set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise SnapshotError(
            f"has no revision {revision!r}: see {_page(name)} for its branches and tags"
        ) from error
    except HFValidationError as error:
        raise SnapshotError(f"is no hub name ({_first_line(error)})") from error
    except HfHubHTTPError as error:
        raise SnapshotError(_status_text(error)) from error
    except UnicodeEncodeError as error:  # of the request's header
        raise SnapshotError(BAD_TOKEN) from error
    except (LocalEntryNotFoundError, ConnectionError, TimeoutError) as error:
        raise SnapshotError(_unreachable(error)) from error
    except Exception as error:
        if not _is_of_transport(error):
            raise
        raise SnapshotError(_unreachable(error)) from error


def _status_text(error: Any) -> str:
    """Message of an answer with an error status."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return (
            f"is refused by the hub (status {status}): the token is wrong, has expired or lacks "
            "access; log in again with `hf auth login`, or set HF_TOKEN"
        )
    return f"could not be fetched: the hub answered with status {status}; try again later"


def _unreachable(error: Exception) -> str:
    return (
        f"could not be fetched: no connection to {os.environ.get('HF_ENDPOINT', 'the hub')} "
        f"({_first_line(error)}); run this on a machine with network access, and check "
        "HTTPS_PROXY and HF_ENDPOINT; finished files stay"
    )


TRANSPORTS = ("httpx", "httpx2", "httpcore", "requests", "hf_xet", "huggingface_hub")
"""Libraries that transfer files for the hub's client; which of them differs by version."""


def _is_of_transport(error: Exception) -> bool:
    """Whether an error comes from the transfer; hf_xet raises RuntimeError."""
    return type(error).__module__.split(".")[0] in TRANSPORTS or type(error) is RuntimeError


def _page(name: str) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{name}"


def _first_line(error: Exception) -> str:
    """First line of an error's message, without the token and the secrets of URLs."""
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return without_token(line)


BAD_TOKEN = (
    "cannot be asked for: the token has characters that no token has; log in again with "
    "`hf auth login`, or set HF_TOKEN"
)


def without_token(text: str) -> str:
    """A text without the hub's token of this machine and without the secrets of URLs."""
    from huggingface_hub import get_token

    token = get_token()
    return redact(text.replace(token, "") if token else text)
